"""The documentation is run: every command and every Python block in README.md, docs/ and examples/README.md.

Output shown below a command must be what the command prints; a line `...` stands for any lines. After a wanted change
UPDATE_GOLDEN=1 pytest tests/test_docs.py rewrites the blocks that are wholly a command's output.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner, Result
from transcripts import shows

from gradcheck_tool import schemas
from gradcheck_tool.cli import gradtool
from gradcheck_tool.rules import all_rules

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "README.md"
PAGES = [ROOT / "README.md", EXAMPLES, *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The contents of the fenced blocks of `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def transcripts(page: Path) -> list[tuple[str, str]]:
    """Each command of the console blocks with the output shown below it, and the commands in the running text."""
    shown = [part.partition("\n") for block in blocks(page, "console") for part in re.split(r"^\$ ", block, flags=re.M)]
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    inline = [(command, "...\n") for command in re.findall(r"`(gradtool [^`]*examples/[^`]*)`", prose)]
    return [(command, output) for command, _, output in shown if command] + inline


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


COMMANDS = [
    pytest.param(command, output, id=f"{name_of(page)}, {command}")
    for page in PAGES
    for command, output in transcripts(page)
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small gain nothing by a second thread, and on a busy machine two wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples in it, where commands may write; `gradtool` is on the PATH."""
    place = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "examples", place / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(place)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return place


def run(command: str) -> Result:
    program, *arguments = shlex.split(command)
    assert program == "gradtool"
    return CliRunner().invoke(gradtool, arguments)


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        pytest.param("a\n\nb 1.00e-12\n", True, id="the whole"),
        pytest.param("a\n...\n", True, id="the beginning and a cut"),
        pytest.param("...\nb 1.01e-12\n", True, id="a figure rounded otherwise"),
        pytest.param("a\n", False, id="the beginning alone"),
        pytest.param("...\nb 1.00e-11\n", False, id="another figure"),
        pytest.param("b 1.00e-12\n...\na\n", False, id="another order"),
        pytest.param("a\n...\nc 1.00e-12\n", False, id="another word"),
    ],
)
def test_the_comparison_accepts_what_is_the_same(shown: str, same: bool) -> None:
    assert shows(shown, "a\n\nb 1.00e-12\n") is same


@pytest.mark.parametrize(("command", "output"), COMMANDS)
@pytest.mark.usefixtures("folder")
def test_command_prints_what_is_shown(command: str, output: str) -> None:
    if command.endswith(" fixed.py") and " -o " not in command:
        run("gradtool fix --insert-bn -o fixed.py examples/plain_conv_net.py")
    result = run(command)
    assert result.exit_code in (0, 1), result.stderr
    assert shows(output, result.stdout), result.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
@pytest.mark.usefixtures("folder")
def test_python_blocks_run_one_after_the_other_in(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": "docs"}
    for block in blocks(page, "python"):
        exec(compile(block, name_of(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_block_escapes_the_tests_in(page: Path) -> None:
    fences = re.findall(r"^ *```(\w*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(fences[::2]) <= {"console", "python", "sh", "text"}
    assert set(fences[1::2]) <= {""}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_in(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


# the install lines


def install_lines() -> tuple[str, str]:
    start, check = (block.strip() for block in blocks(ROOT / "README.md", "sh"))
    return start, check


def test_ci_runs_the_readmes_test_line() -> None:
    assert install_lines()[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_each_install_line_is_one_line() -> None:
    assert all("\n" not in line for line in install_lines())


@pytest.mark.usefixtures("folder")
def test_the_quick_start_line_ends_in_a_command_that_works() -> None:
    result = run("gradtool " + install_lines()[0].partition("/gradtool ")[2])
    assert result.exit_code == 0
    assert "Improved" in result.stdout


def test_the_constraints_pin_every_dependency() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = set(re.findall(r'^ +"([a-z][\w-]*)(?:>=[\d.]+)?",$', project, re.MULTILINE))
    pinned = re.findall(r"^([\w.-]+)==\S+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert "torch" in wanted
    assert wanted <= {name.lower() for name in pinned}


# scripts


def scripts(page: Path) -> list[tuple[str, ...]]:
    commands = re.findall(r"`python (examples/\w+\.py[^`]*)`", page.read_text(encoding="utf-8"))
    mentioned = [tuple(shlex.split(command)) for command in commands]
    return sorted(dict.fromkeys(mentioned))


@pytest.mark.parametrize("command", sorted({c for page in PAGES for c in scripts(page)}), ids=" ".join)
def test_script_has_the_options_that_are_shown(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, *options = command  # tests/test_examples.py runs them
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    monkeypatch.syspath_prepend((ROOT / script).parent)  # as where Python runs the script itself
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    shown = capsys.readouterr().out
    assert [option for option in options if option not in shown] == []


# pages that repeat what the program says


@pytest.mark.parametrize(
    ("page", "command"),
    [("docs/verdicts.md", "gradtool explain verdicts"), ("docs/rules.md", "gradtool explain")],
)
def test_page_holds_what_the_command_prints(page: str, command: str) -> None:
    file = ROOT / page
    printed = run(command).stdout
    if os.environ.get("UPDATE_GOLDEN"):
        before, _, rest = file.read_text(encoding="utf-8").partition("```text\n")
        after = re.split(r"^```$", rest, maxsplit=1, flags=re.MULTILINE)[1]
        file.write_text(f"{before}```text\n{printed}```{after}", encoding="utf-8")
    assert blocks(file, "text") == [printed]


def options_of(command: str) -> set[str]:
    parameters = gradtool.commands[command].params
    return {name for parameter in parameters if isinstance(parameter, click.Option) for name in parameter.opts}


@pytest.mark.parametrize("command", ["audit", "probe", "fix"])
def test_every_option_is_on_the_page_of_the_command_line(command: str) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert {option for option in options_of(command) if not re.search(rf"`{option}[` ]", page)} == set()


def test_the_page_of_the_command_line_names_no_option_that_is_not_there() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    known = options_of("audit") | options_of("probe") | options_of("fix") | {"-h", "--help"}
    assert set(re.findall(r"(?<=`)--?[a-z][\w-]*", page)) <= known


def keys(schema: Any) -> set[str]:
    """Every key that a JSON Schema names."""
    if isinstance(schema, list):
        return {key for item in schema for key in keys(item)}
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", ())) | {key for value in schema.values() for key in keys(value)}


@pytest.mark.parametrize("document", schemas.NAMES)
def test_every_key_of_the_json_is_on_its_page(document: str) -> None:
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    assert {key for key in keys(schemas.load(document)) if f"`{key}`" not in page} == set()


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.code)
def test_every_rule_shows_what_to_write_instead(rule: Any) -> None:
    assert "**Use instead**" in rule.explanation
