"""The command line without the analysis behind it: help, options, errors, exit codes, and what may stand on stdout."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import gradcheck_tool
from gradcheck_tool.cli import gradtool
from gradcheck_tool.cli.progress import PATIENCE, Progress
from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.files import require_writable, write_whole
from gradcheck_tool.thresholds import EXPLANATION

COMMANDS = ("audit", "probe", "fix", "explain")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}  # two threads wait for each other on a busy machine


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(gradtool, [str(argument) for argument in arguments])


def python(code: str, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=ENVIRONMENT)


def run(*arguments: str | Path, cwd: Path, **streams: Any) -> subprocess.CompletedProcess[str]:
    """Run gradtool in a process of its own."""
    command = [sys.executable, "-m", "gradcheck_tool", *map(str, arguments)]
    if not streams:
        streams = {"capture_output": True}
    return subprocess.run(command, text=True, timeout=120, check=False, cwd=cwd, env=ENVIRONMENT, **streams)


def assert_one_line(result: Result | subprocess.CompletedProcess[str], *parts: str) -> None:
    """One line on stderr with all of `parts` in it, nothing on stdout, exit code 2."""
    code = result.exit_code if isinstance(result, Result) else result.returncode
    assert (code, result.stdout) == (2, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for part in ("gradtool: error: ", *parts):
        assert part in result.stderr


# help


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help_with_examples(command: str, flag: str) -> None:
    result = invoke(command, flag)
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_gradtool_alone_shows_the_help() -> None:
    assert "Examples:" in invoke().output


def test_version_is_the_packages() -> None:
    assert invoke("--version").stdout == f"gradtool {gradcheck_tool.__version__}\n"


def test_python_dash_m_calls_itself_gradtool(tmp_path: Path) -> None:
    assert run("--help", cwd=tmp_path).stdout.startswith("Usage: gradtool ")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--help"], id="the help of gradtool"),
        pytest.param(["audit", "--help"], id="the help of a command"),
        pytest.param(["--version"], id="the version"),
        pytest.param(["explain"], id="the list of rules"),
        pytest.param(["explain", "GT001"], id="the explanation of a rule"),
        pytest.param(["explain", "verdicts"], id="the explanation of the verdicts"),
    ],
)
def test_torch_and_networkx_are_not_imported_for(arguments: list[str]) -> None:
    result = python(
        """
        import sys
        from gradcheck_tool.cli import gradtool
        try:
            gradtool(prog_name="gradtool")
        except SystemExit as leaving:
            assert leaving.code == 0, leaving.code
        print({"torch", "networkx", "numpy", "tabulate"} & set(sys.modules), file=sys.stderr)
        """,
        *arguments,
    )
    assert (result.returncode, result.stderr) == (0, "set()\n"), result.stderr


# the face of the package


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, gradcheck_tool; print({'torch', 'networkx', 'numpy', 'click'} & set(sys.modules))"
    assert python(code).stdout == "set()\n"


@pytest.mark.parametrize("name", gradcheck_tool.__all__)
def test_everything_public_is_there(name: str) -> None:
    assert getattr(gradcheck_tool, name) is not None
    assert name in dir(gradcheck_tool)


def test_no_submodule_takes_the_name_of_a_verb_which_an_import_would_shadow() -> None:
    submodules = {info.name for info in pkgutil.iter_modules(gradcheck_tool.__path__)}
    assert not submodules & {"audit", "probe", "fix", "check", "capture"}


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'heal'"):
        gradcheck_tool.heal  # noqa: B018


# usage


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        pytest.param(["audit"], "TARGET", id="no target"),
        pytest.param(["audit", "m.py", "--format", "yaml"], "yaml", id="an unknown format"),
        pytest.param(["audit", "m.py", "--fail-on", "fatal"], "fatal", id="an unknown severity"),
        pytest.param(["audit", "m.py", "--min-depth", "0"], "--min-depth", id="a depth of nothing"),
        pytest.param(["audit", "m.py", "--seed", "-1"], "--seed", id="a negative seed"),
        pytest.param(["audit", "m.py", "--timeout", "-1"], "--timeout", id="less than no time"),
        pytest.param(["heal", "m.py"], "heal", id="an unknown command"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], part: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert part in result.stderr


def test_fix_without_a_remedy_says_what_to_add() -> None:
    assert_one_line(invoke("fix", "model.py"), "--insert-bn")


def test_diff_is_text() -> None:
    assert_one_line(invoke("fix", "--insert-bn", "--diff", "--format", "json", "model.py"), "--diff", "json")


@pytest.mark.parametrize("command", ["audit", "probe", "fix --insert-bn"])
@pytest.mark.parametrize("option", ["--select", "--ignore"])
def test_an_unknown_rule_code_is_refused_before_the_target_is_looked_at(command: str, option: str) -> None:
    assert_one_line(invoke(*command.split(), option, "GT999", "no_such_file.py"), "GT999")


def test_explain_refuses_an_unknown_rule() -> None:
    assert_one_line(invoke("explain", "GT999"), "GT999")


def test_explain_lists_every_rule_on_a_line() -> None:
    assert any(line.startswith("GT001  unnormalized-chain  ") for line in invoke("explain").stdout.splitlines())


@pytest.mark.parametrize("rule", ["GT001", "unnormalized-chain"])
def test_explain_takes_a_code_or_a_name(rule: str) -> None:
    assert invoke("explain", rule).stdout.startswith("GT001 unnormalized-chain\n\n")


def test_explain_names_the_topic_of_the_verdicts() -> None:
    assert any(line.startswith("verdicts  ") for line in invoke("explain").stdout.splitlines())


@pytest.mark.parametrize("topic", ["verdicts", "verdict", "vanishing", "no-gradient", "Healthy"])
def test_explain_takes_the_verdicts_or_one_of_them(topic: str) -> None:
    assert invoke("explain", topic).stdout == EXPLANATION


# what goes wrong becomes one line


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes `gradtool explain` fail with an error of choice: the shortest way through the border."""

    def install(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr("gradcheck_tool.rules.all_rules", fail)
        # `audit` is asked for its rule codes first, and has -v
        monkeypatch.setattr("gradcheck_tool.rules.parse_codes", lambda codes: fail())

    return install


def test_an_error_of_the_user_is_one_line(failing: Any) -> None:
    failing(GradtoolError("forward\nfailed", file="model.py", line=3, hint="try --input"))
    result = invoke("explain")
    assert_one_line(result)
    assert result.stderr == "gradtool: error: model.py:3: forward failed; try --input\n"


@pytest.mark.parametrize(("flags", "shown"), [([], False), (["-v"], True)], ids=["hidden", "shown with -v"])
def test_the_users_traceback_is(failing: Any, flags: list[str], shown: bool) -> None:
    failing(GradtoolError("forward failed", user_traceback="File model.py, line 3\n"))
    assert ("File model.py, line 3" in invoke("audit", *flags, "model.py").stderr) is shown


def test_what_an_error_without_a_line_of_the_users_comes_from_is_shown_with_v(failing: Any) -> None:
    error = GradtoolError("forward of Net raised RuntimeError: no")
    error.__cause__ = RuntimeError("no")
    failing(error)
    assert "Traceback" not in invoke("audit", "model.py").stderr
    assert invoke("audit", "-v", "model.py").stderr.startswith("RuntimeError: no\n")


def test_our_own_bug_is_one_line_that_asks_to_report_it(failing: Any) -> None:
    failing(KeyError("a\nb"))
    assert_one_line(invoke("audit", "model.py"), "internal error: KeyError", "report it", "-v")


def test_our_own_bug_has_its_traceback_with_v(failing: Any) -> None:
    failing(KeyError("a"))
    assert "Traceback" in invoke("audit", "-v", "model.py").stderr


def test_an_exit_out_of_the_users_code_does_not_read_as_success(failing: Any) -> None:
    failing(SystemExit(0))
    assert_one_line(invoke("audit", "model.py"), "sys.exit(0)")


def test_an_interrupt_is_quiet(failing: Any) -> None:
    failing(KeyboardInterrupt())
    result = invoke("audit", "model.py")
    assert (result.exit_code, result.output) == (130, "")


# the result, and nothing else, on stdout

NOISY = """
    import ctypes, os, sys
    def noise():
        print("noise")
        print("noise", file=sys.__stdout__)
        os.write(1, b"noise\\n")
        libc = ctypes.CDLL(None)
        libc.puts(b"noise")
        libc.printf(b"noise without an end")
        os.system("echo noise")
"""


def test_whatever_prints_goes_to_stderr_until_the_process_ends() -> None:
    result = python(
        textwrap.dedent(NOISY)
        + textwrap.dedent("""
            import atexit
            from gradcheck_tool.cli.streams import claim_stdout
            with claim_stdout() as channel:
                noise()
                channel.write("the result\\n")
            noise()
            atexit.register(noise)
            """)
    )
    assert (result.returncode, result.stdout) == (0, "the result\n")
    assert result.stderr.count("noise") == 18


def test_a_replaced_stdout_gets_the_result_and_prints_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    from gradcheck_tool.cli.streams import claim_stdout

    with claim_stdout() as channel:
        print("noise")
        channel.write("the result\n")
    print("after")
    assert tuple(capsys.readouterr()) == ("the result\nafter\n", "noise\n")


CLAIM = "from gradcheck_tool.cli.streams import claim_stdout\nwith claim_stdout() as channel: channel.write({text})"


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        pytest.param(">&-", 0, id="stdout closed"),
        pytest.param("2>&-", 0, id="stderr closed"),
        pytest.param("| true", 0, id="a reader that does not read"),
        pytest.param("| head -c 1 >/dev/null", 0, id="a reader that leaves early"),
        pytest.param(">/dev/full", 1, id="a full disk"),
    ],
)
def test_standard_output_may_be(redirection: str, code: int) -> None:
    script = CLAIM.format(text="200_000 * 'x'")
    command = ["bash", "-o", "pipefail", "-c", f'"$0" -c "$1" {redirection}', sys.executable, script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == code
    assert ("Traceback" in result.stderr) is bool(code)  # the command line turns this one into a line


def test_text_that_the_terminal_cannot_show_is_escaped() -> None:
    code = CLAIM.format(text="'fc1 … fc9'")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True, env=environment).stdout == b"fc1 \\u2026 fc9"


MODEL = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        noise()
        self.body = nn.Sequential(*[layer for _ in range(6) for layer in (nn.Linear(8, 8), nn.Sigmoid())])
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        noise()
        return self.head(self.body(x))


model = Net()
"""
ATEXIT = "import atexit\natexit.register(noise)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model.py in it that prints when it is built and run."""
    (tmp_path / "model.py").write_text("def noise():\n    print('noise')\n" + MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["audit", "audit --probe", "probe", "fix --insert-bn"])
def test_json_is_the_only_thing_on_stdout_for(command: str, folder: Path) -> None:
    (folder / "model.py").write_text(textwrap.dedent(NOISY) + ATEXIT + MODEL)
    result = run(*command.split(), "--format", "json", "--input", "8x8", "model.py", cwd=folder)
    assert json.loads(result.stdout)["target"]["file"] == "model.py", result.stderr
    assert result.stderr.count("noise") >= 18


@pytest.mark.usefixtures("folder")
def test_json_is_the_only_thing_on_stdout_under_a_test_runner() -> None:
    result = invoke("audit", "--format", "json", "--input", "8x8", "model.py")
    assert json.loads(result.stdout)["target"]["file"] == "model.py"
    assert "noise" in result.stderr


@pytest.mark.usefixtures("folder")
def test_options_may_follow_the_target() -> None:
    result = invoke("audit", "model.py", "--input", "8x8", "--min-depth", "7", "--fail-on", "note")
    assert (result.exit_code, result.stdout[:13]) == (0, "nothing found")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param("audit", 1, id="findings"),
        pytest.param("audit --fail-on never", 0, id="findings that may be"),
        pytest.param("audit --min-depth 7", 0, id="nothing found"),
        pytest.param("fix --insert-bn --diff --fail-on never", 0, id="a diff that may stay unwritten"),
    ],
)
def test_exit_code_for(arguments: str, code: int) -> None:
    assert invoke(*arguments.split(), "--input", "8x8", "model.py").exit_code == code


@pytest.mark.usefixtures("folder")
def test_quiet_audit_prints_the_finding_lines_alone() -> None:
    lines = invoke("audit", "-q", "--input", "8x8", "model.py").stdout.splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == ["GT001"]


# --output-file


def test_output_file_takes_the_place_of_stdout(folder: Path) -> None:
    result = invoke("audit", "--format", "json", "--output-file", "r.json", "--input", "8x8", "model.py")
    assert (result.exit_code, result.stdout) == (1, ""), result.stderr
    assert json.loads((folder / "r.json").read_text())["findings"]


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_output_file_may_be_named_standard_output(name: str, folder: Path) -> None:
    result = run("audit", "--format", "json", "--output-file", name, "--input", "8x8", "model.py", cwd=folder)
    assert json.loads(result.stdout)["findings"], result.stderr


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "option", ["--output-file", "-o"], ids=["the report's place is checked", "the fix's place is checked"]
)
def test_before_the_target_is_loaded(option: str) -> None:
    assert_one_line(invoke("fix", "--insert-bn", option, "missing/out", "model.py"), "missing/out")


@pytest.mark.parametrize(
    ("make", "name", "part"),
    [
        pytest.param(lambda folder: None, "missing/report", "no folder", id="in a folder that is not there"),
        pytest.param(lambda folder: (folder / "dir").mkdir(), "dir", "is a folder", id="a folder"),
        pytest.param(lambda folder: (folder / "f").touch(), "f/report", "f/report", id="under a file"),
        pytest.param(lambda folder: None, "x" * 300, "long", id="too long a name"),
        pytest.param(
            lambda folder: (folder / "loop").symlink_to("loop"),
            "loop/report",
            "loop/report",
            id="behind a link to itself",
        ),
        pytest.param(lambda folder: None, "/proc/report", "/proc/report", id="where no file can be made"),
    ],
)
@pytest.mark.parametrize("attempt", [require_writable, lambda path: write_whole(path, "new")], ids=["check", "write"])
def test_refused_is_a_file(attempt: Any, make: Any, name: str, part: str, tmp_path: Path) -> None:
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(GradtoolError, match=part):
        attempt(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_check_leaves_nothing_behind(tmp_path: Path) -> None:
    require_writable(tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "ours", "new\r\nlines\n")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "ours").read_bytes() == b"new\r\nlines\n"


def test_an_existing_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o751)
    link.symlink_to("real")
    write_whole(link, "new")
    assert (link.is_symlink(), real.read_text(), real.stat().st_mode & 0o777) == (True, "new", 0o751)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "real"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "report").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GradtoolError, match="No space left"):
        write_whole(tmp_path / "report", "new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"report": "old"}


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    write_whole(pipe, "through")
    assert reader.communicate(timeout=30)[0] == b"through"
    assert pipe.is_fifo()


# progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "terminal", "wanted", "shown"),
    [
        pytest.param(PATIENCE / 2, True, True, False, id="fast work shows no bar"),
        pytest.param(PATIENCE * 2, True, True, True, id="slow work shows a bar"),
        pytest.param(PATIENCE * 2, False, True, False, id="no bar where stderr is no terminal"),
        pytest.param(PATIENCE * 2, True, False, False, id="no bar where it is not wanted"),
    ],
)
def test_progress(
    seconds: float,
    terminal: bool,
    wanted: bool,
    shown: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    monkeypatch.setattr("gradcheck_tool.cli.progress.time.monotonic", clock.monotonic)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with Progress(wanted) as progress:
        progress("capture", 1, 2)
        clock.now = seconds
        progress("capture", 2, 2)  # done already: no bar for what is over
        progress("probe", 1, 4)
        progress("probe", 4, 4)
    err = click.unstyle(capsys.readouterr().err)
    assert ("probe" in err and "100%" in err, "capture" in err) == (shown, False)
