"""The container image: what its Dockerfile says is sound, pinned, and does what it says in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

Instruction = tuple[str, str]


def instructions() -> list[list[Instruction]]:
    """Keyword and text of each instruction, by stage; what stands before the first FROM is left out."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    logical = [line for line in re.sub(r"\\\n\s*", "", lines).splitlines() if line.strip()]
    stages: list[list[Instruction]] = []
    for keyword, text in (line.split(maxsplit=1) for line in logical):
        if keyword == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((keyword, text))
    return stages


BUILD, FINAL = instructions()


def of(stage: list[Instruction], keyword: str) -> list[str]:
    return [text for found, text in stage if found == keyword]


# -- what it says ----------------------------------------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("hadolint is not installed")
    ended = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_it_stands_on_the_official_python_image_and_names_no_other_host() -> None:
    assert [text.split()[0] for stage in (BUILD, FINAL) for text in of(stage, "FROM")] == 2 * ["python:${PYTHON}-slim"]
    assert re.search(r"^ARG PYTHON=3\.\d+$", TEXT, re.MULTILINE)
    assert "://" not in TEXT
    assert not re.search(r"\b[\w-]+\.(io|com|org|dev)/", TEXT)


def test_the_last_stage_runs_nothing_and_is_not_root() -> None:
    assert of(FINAL, "RUN") == []
    assert of(FINAL, "USER") == ["10001:10001"]
    assert [text.split()[0] for text in of(FINAL, "COPY")] == ["--from=build"]
    assert len(of(FINAL, "ENTRYPOINT")) == len(of(FINAL, "CMD")) == 1


def test_user_and_folders_are_those_of_the_chart() -> None:
    values = yaml.safe_load((ROOT / "helm" / "cagdask" / "values.yaml").read_text())
    assert of(FINAL, "USER") == ["{user}:{group}".format(**values["podSecurity"])]
    helpers = (ROOT / "helm" / "cagdask" / "templates" / "_helpers.tpl").read_text()
    for name in re.findall(r"(\w+)=(/tmp\S*)", " ".join(of(FINAL, "ENV"))):
        assert f"- name: {name[0]}\n  value: {name[1]}\n" in helpers, name


def test_every_install_is_by_hash_or_of_what_was_built_here() -> None:
    installs = re.findall(r"pip install ([^&]+)", " ".join(of(BUILD, "RUN")))
    assert len(installs) == 3
    for arguments in installs:
        assert "--require-hashes" in arguments or ("--no-deps" in arguments and "wheel/*.whl" in arguments)


def test_scripts_that_the_chart_runs_are_in_the_image() -> None:
    templates = "".join(
        path.read_text() for path in (ROOT / "helm" / "cagdask" / "templates").rglob("*") if path.is_file()
    )
    wanted = set(re.findall(r"/opt/cagdask/(\w+\.py)", templates))
    copied = set(re.findall(r"scripts/(\w+\.py)", " ".join(of(BUILD, "COPY"))))
    assert wanted == copied
    assert all((ROOT / "scripts" / name).exists() for name in wanted)


def ignored(name: str) -> bool:
    """Whether .dockerignore keeps a file out; the last rule that fits counts."""
    out = False
    for rule in (ROOT / ".dockerignore").read_text().split():
        pattern = rule.removeprefix("!")
        if fnmatch(name, pattern) or name.startswith(f"{pattern}/") or fnmatch(f"/{name}", pattern.replace("**", "*")):
            out = not rule.startswith("!")
    return out


def test_the_context_has_what_is_copied_and_no_more() -> None:
    sources = [word for text in of(BUILD, "COPY") for word in text.split()[:-1]]
    for name in sources:
        assert (ROOT / name).exists(), name
        assert not ignored(name), name
    for name in (".git/config", "demo/README.md", "tests/conftest.py", "build/helm/helm", "cagdask/io/__pycache__"):
        assert ignored(name), name


# -- what it pins ----------------------------------------------------------------------------------------------------


def entries(name: str) -> dict[str, str]:
    """Text of each requirement of a lock, by its first line."""
    found = re.split(r"^(?=[a-z0-9])", (ROOT / "requirements" / name).read_text(), flags=re.MULTILINE)
    return {entry.splitlines()[0].removesuffix(" \\"): entry for entry in found if entry.strip()}


def hashes(entry: str) -> set[str]:
    return set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry))


@pytest.mark.parametrize("name", ["image.txt", "build.txt"])
def test_what_the_image_shares_with_the_lock_is_the_same(name: str) -> None:
    lock, own = entries("lock.txt"), entries(name)
    assert all(hashes(entry) for entry in own.values())
    named = {Requirement(line).name for line in lock}
    shared = [line for line in own if Requirement(line).name in named]
    assert len(shared) > 4
    for line in shared:
        pin, marker = Requirement(line).specifier, Requirement(line).name
        (twin,) = [
            e for other, e in lock.items() if Requirement(other).name == marker and Requirement(other).specifier == pin
        ]
        assert hashes(own[line]) == hashes(twin), line


def test_the_image_has_all_that_cagdask_needs() -> None:
    pinned = {Requirement(line).name for line in entries("image.txt")}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dashboard"]]
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= pinned
    needed = {
        Requirement(line).name
        for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    }
    assert needed <= {Requirement(line).name for line in entries("build.txt")}


def test_the_image_has_nothing_of_the_tests() -> None:
    pinned = {Requirement(line).name for line in entries("image.txt")}
    assert not pinned & {"pytest", "hypothesis", "ruff", "sphinx", "mypy", "helm-python-sdk", "dask-kubernetes"}


# -- what it does ----------------------------------------------------------------------------------------------------


def interpreter() -> str:
    """A Python of the image's version, where there is one."""
    version = re.search(r"^ARG PYTHON=(\S+)$", TEXT, re.MULTILINE)
    assert version
    return shutil.which(f"python{version[1]}") or sys.executable


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_steps_make_an_environment_that_runs(tmp_path: Path) -> None:
    """Every COPY and RUN of the first stage in an empty folder, then the program as the last stage starts it."""
    base, opt, work, tmp = (tmp_path / name for name in ("base", "opt", "build", "tmp"))
    subprocess.run([interpreter(), "-m", "venv", base], check=True)
    for folder in (work, tmp):
        folder.mkdir()
    environment = {"PATH": f"{base}/bin:/usr/bin:/bin", "HOME": str(tmp)}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "OPENBLAS_CORETYPE"))}

    def here(text: str) -> str:
        return re.sub(r"/opt/cagdask", f"{opt}/cagdask", text)

    for keyword, text in BUILD:
        if keyword == "COPY":
            *sources, target = here(text).split()
            copy([ROOT / name for name in sources], work / target, many=target.endswith("/"))
        elif keyword == "RUN":
            ended = subprocess.run(["sh", "-c", here(text)], cwd=work, env=environment, capture_output=True, text=True)
            assert ended.returncode == 0, f"{text}\n{ended.stderr[-3000:]}"
    final = {"PATH": f"{opt}/cagdask/venv/bin:/usr/bin:/bin"}
    for pair in shlex.split(" ".join(of(FINAL, "ENV"))):
        name, value = pair.split("=", 1)
        if name != "PATH":
            final[name] = re.sub(r"^/tmp", str(tmp), value)
    program = opt / "cagdask" / "venv" / "bin"
    (entrypoint,) = yaml.safe_load(of(FINAL, "ENTRYPOINT")[0])
    told = subprocess.run([program / entrypoint, "--help"], env=final, capture_output=True, text=True, check=True)
    assert "Co-abundant gene groups" in told.stdout
    command = [
        program / entrypoint,
        "run",
        ROOT / "demo" / "sample_sheet.json",
        "--output",
        tmp / "cags",
        "--workers",
        "2",
    ]
    ended = subprocess.run(command, env=final, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (tmp / "cags" / "run.json").exists()
    for script in (opt / "cagdask").glob("*.py"):
        if script.name != "dashboard_password.py":
            subprocess.run([program / "python", script, "--help"], env=final, capture_output=True, check=True)
    assert not (program / "pip").exists()
    size = sum(path.lstat().st_size for path in opt.rglob("*"))
    print(f"size of the environment: {size / 2**20:.0f} MiB")
    assert size < 900 * 2**20


def copy(sources: list[Path], target: Path, *, many: bool) -> None:
    """As COPY does: a folder's content, or files into a folder that ends with a slash."""
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            goal = target / source.name if many else target
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, goal)
