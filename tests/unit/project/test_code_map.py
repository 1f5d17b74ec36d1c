"""The contributors' page names files and functions that exist, and every module."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sphinx")
ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "contributing.md"


@pytest.fixture(scope="module")
def extension() -> Any:
    spec = importlib.util.spec_from_file_location("code_map", ROOT / "docs" / "_extensions" / "code_map.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_module_is_on_the_map_with_a_sentence(extension: Any) -> None:
    lines = extension.code_map()
    modules = [path.name for path in (ROOT / "cagdask").rglob("*.py") if path.name != "__init__.py"]
    shown = re.findall(r"^ *- `(\w+\.py)`: \S", "\n".join(lines), re.MULTILINE)
    assert sorted(shown) == sorted(modules)
    packages = [path.parent.name for path in (ROOT / "cagdask").rglob("__init__.py")]
    assert sorted([*re.findall(r"\*\*`(\w+)/`\*\*: \S", "\n".join(lines)), "cagdask"]) == sorted(packages)


def test_everything_that_the_page_names_is_there(extension: Any) -> None:
    named = re.findall(r"\{where\}`([^`]+)`", PAGE.read_text())
    assert len(named) > 30
    assert [fault for text in named for fault in extension.faults(text)] == []


def test_what_is_not_there_is_a_fault(extension: Any) -> None:
    assert extension.faults("cagdask/nowhere.py") == ["there is no cagdask/nowhere.py"]
    assert extension.faults("cagdask/storage/s3.py bucket gone") == ["cagdask/storage/s3.py does not define gone"]
    assert extension.faults("cagdask/compute/runner.py Runner.map") == []
