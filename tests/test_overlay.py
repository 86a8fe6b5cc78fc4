"""Sources laid over files: they are loaded, imported and shown in the place of what is on disk."""

from __future__ import annotations

import importlib
import inspect
import linecache
import sys
import traceback
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from gradcheck_tool.errors import GradtoolError
from gradcheck_tool.target.loading import at_home, load_file
from gradcheck_tool.target.overlay import overlaid, read

NAME = "module_of_overlay_tests"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module on the import path, with a compiled file in Python's cache."""
    place = tmp_path / f"{NAME}.py"
    place.write_text("value = 'disk'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert imported().value == "disk"
    assert list(tmp_path.glob("__pycache__/*.pyc"))
    yield place
    sys.modules.pop(NAME, None)


def imported() -> ModuleType:
    sys.modules.pop(NAME, None)
    importlib.invalidate_caches()
    return importlib.import_module(NAME)


def test_an_import_gives_what_was_laid_over_and_afterwards_what_is_on_disk(file: Path) -> None:
    with overlaid({file: b"value = 'laid'\n"}):
        assert imported().value == "laid"
    assert imported().value == "disk"


def test_what_was_laid_over_gets_into_no_cache(file: Path) -> None:
    before = {path: path.read_bytes() for path in file.parent.rglob("*") if path.is_file()}
    with overlaid({file: b"value = 'laid'\n"}):
        imported()
    assert {path: path.read_bytes() for path in file.parent.rglob("*") if path.is_file()} == before


def test_a_submodule_of_a_package_is_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_of_overlay_tests"
    package.mkdir()
    (package / "__init__.py").write_text("from .part import value\n")
    (package / "part.py").write_text("value = 'disk'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with overlaid({package / "part.py": b"value = 'laid'\n"}):
        assert importlib.import_module(package.name).value == "laid"
    for name in (package.name, f"{package.name}.part"):
        del sys.modules[name]


def test_a_path_with_a_link_in_it_leads_to_the_same_source(
    file: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(file.parent)
    with overlaid({link / file.name: b"value = 'laid'\n"}):
        assert imported().value == "laid"
        assert read(file) == b"value = 'laid'\n"


def test_the_target_itself_is_loaded_from_it(tmp_path: Path) -> None:
    target = tmp_path / "target_of_overlay_tests.py"
    target.write_text("value = 'disk'\n")
    with overlaid({target: b"value = 'laid'\n"}), at_home(tmp_path, str(target)):
        assert load_file(target).value == "laid"
    del sys.modules[target.stem]


def test_an_error_names_the_line_that_was_laid_there(tmp_path: Path) -> None:
    target = tmp_path / "target_of_overlay_tests.py"
    target.write_text("value = 1\n")
    source = b"value = 1\nvalue = 2\nraise ValueError('here')\n"
    with overlaid({target: source}), at_home(tmp_path, str(target)), pytest.raises(GradtoolError) as caught:
        load_file(target)
    assert caught.value.line == 3
    assert "raise ValueError('here')" in str(caught.value.user_traceback)


def test_tracebacks_and_inspect_show_it(file: Path) -> None:
    with overlaid({file: b"# a line more\ndef broken():\n    return 1 / 0\n"}):
        module = imported()
        assert inspect.getsource(module.broken) == "def broken():\n    return 1 / 0\n"
        with pytest.raises(ZeroDivisionError) as caught:
            module.broken()
        assert "return 1 / 0" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert linecache.getlines(str(file)) == ["value = 'disk'\n"]


def test_in_another_encoding_it_is_read_as_python_reads_it(file: Path) -> None:
    with overlaid({file: "# coding: latin-1\nvalue = 'ü'\n".encode("latin-1")}):
        assert imported().value == "ü"
        assert linecache.getline(str(file), 2) == "value = 'ü'\n"


def test_python_s_own_loader_is_left_as_it_was(file: Path) -> None:
    before = dict(vars(SourceFileLoader))
    with pytest.raises(RuntimeError), overlaid({file: b"value = 'laid'\n"}):
        raise RuntimeError
    assert dict(vars(SourceFileLoader)) == before


def test_layers_lie_over_each_other(file: Path) -> None:
    with overlaid({file: b"value = 'one'\n"}):
        with overlaid({file: b"value = 'two'\n"}):
            assert imported().value == "two"
        assert imported().value == "one"
