"""Messages of the library name parameters; commands show them with their own flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from cagdask.cli import find_cags, main
from cagdask.cli.flags import flags_of, flags_of_parser, in_flags
from tests.conftest import MakeStore

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "cagdask"
COMMANDS: dict[str, click.Command] = {
    f"{name} {below}".strip(): command
    for name, group in main.commands.items()
    for below, command in (group.commands.items() if isinstance(group, click.Group) else [("", group)])
}
EVERY_COMMAND = tuple(COMMANDS)
READERS = ("run", "ingest")
SHOWN_BY = {
    "arguments.py": EVERY_COMMAND,
    "cags": ("run", "cluster", "cut", "assign"),
    "compute": EVERY_COMMAND,
    "expression": ("normalize", "metrics"),
    "factors": ("nmf fit", "nmf select", "nmf consensus", "nmf project"),
    "io": READERS,
    "labels": ("test", "classify", "predict"),
    "normalization": ("run", "cluster", "normalize"),
    "plot": ("plot", "run"),
    "runs": ("run", "plan"),
    "simulation": ("simulate",),
    "storage": EVERY_COMMAND,
    "twopass": ("twopass",),
    "vectors": ("similar", "analogy"),
}
"""Commands that may show a message of each part of the package."""
ONLY_IN_PYTHON = {"gene_dim", "prevalence"}
"""Parameters of messages that no command can cause."""
PARAMETER = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)(?:=([^`]*))?`(?!`)")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Strings of a module, with {} for what is filled in, and no docstrings; help of declared options left out."""
    tree = ast.parse(path.read_text())
    skip = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skip |= {id(part) for part in node.values}
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Option", "replace"):
            skip |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skip:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def modules() -> list[Path]:
    """Modules of the library, without the command line."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "cli"]


def test_the_library_names_no_flags() -> None:
    found = []
    for path in modules():
        for line, text in texts(path):
            without_commands = re.sub(r"cagdask [a-z]+ .*", "", text)
            if re.search(r"(?<![\w-])--[a-z]", without_commands):
                found.append(f"{path.relative_to(ROOT)}:{line}: {text!r}")
    assert found == [], "write parameters in backticks; the command line shows them as flags"


def named() -> list[tuple[str, str, str]]:
    """Part of the package, parameter and value of everything in backticks in its messages."""
    found = set()
    for path in modules():
        for _, text in texts(path):
            found |= {(path.relative_to(PACKAGE).parts[0], *match) for match in PARAMETER.findall(text)}
    return sorted(found)


def test_many_messages_name_parameters() -> None:
    assert len(named()) > 60


@pytest.mark.parametrize(("part", "parameter", "value"), named())
def test_every_parameter_of_a_message_is_a_flag_of_a_command_that_shows_it(
    part: str, parameter: str, value: str
) -> None:
    text = f"`{parameter}={value}`" if value and "{}" not in value else f"`{parameter}`"
    if parameter in ONLY_IN_PYTHON:
        pytest.skip("no command has it")
    shown = [in_flags(text, flags_of(COMMANDS[name])) for name in SHOWN_BY[part]]
    assert any(one != text for one in shown), f"no command of {SHOWN_BY[part]} has a flag for {text}"


@pytest.mark.parametrize("name", EVERY_COMMAND)
def test_every_option_of_a_command_is_named_by_its_flag(name: str) -> None:
    command = COMMANDS[name]
    flags = flags_of(command)
    assert flags
    for param in command.params:
        assert param.name
        said = in_flags(f"Use `{param.name}`.", flags)
        if isinstance(param, click.Option):
            assert said == f"Use {param.opts[0]}."
        else:
            assert re.fullmatch(r"Use [A-Z]+\.", said), said


@pytest.mark.parametrize(
    ("command", "text", "shown"),
    [
        ("run", "`max_dist` is 3", "--max-dist is 3"),
        ("run", "add `overwrite=True` to", "add --overwrite to"),
        ("run", "`overwrite=False`", "`overwrite=False`"),
        ("run", "`memory_limit='8GiB'` or more", "--memory-limit 8GiB or more"),
        ("run", "`metadata_columns='a b,c'`", "--metadata-columns 'a b,c'"),
        ("run", "`n_workers`", "--workers"),
        ("run", "`client='slurm'` needs", "--cluster slurm needs"),
        ("run", "`client='tcp://a:1'`", "--scheduler tcp://a:1"),
        ("run", "`distributed.comm.tls`", "--tls-ca-file, --tls-cert, --tls-key"),
        ("run", "`CAGDASK_S3_ANONYMOUS=1` or `AWS_REGION`", "--anonymous or --region"),
        ("run", "a gene `odd`, a ``literal``", "a gene `odd`, a ``literal``"),
        ("assign", "the other as `store`", "the other as STORE"),
        ("twopass", "`stride=2`, `topology` or `leaders`", "--stride 2, --top or --leaders-from"),
        ("nmf fit", "`k` is 5", "-k is 5"),
        ("nmf select", "`ks` is 1", "-K is 1"),
        ("analogy", "`shared=False`, `shared=True`", "--exclude-shared, --allow-shared"),
        ("plot", "`color_by` is 'x'", "--by is 'x'"),
        ("info", "add `overwrite=True`", "add `overwrite=True`"),
    ],
)
def test_parameters_become_flags(command: str, text: str, shown: str) -> None:
    assert in_flags(text, flags_of(COMMANDS[command])) == shown


def test_the_other_program_has_its_own_flags() -> None:
    flags = flags_of_parser(find_cags.parser())
    assert (
        in_flags("`min_samples=2`, `n_workers`, `memory_limit`", flags) == "--min-samples 2, --threads, `memory_limit`"
    )


def test_an_error_and_a_warning_are_shown_with_flags(abundance_store: MakeStore, tmp_path: Path) -> None:
    store = abundance_store(np.random.default_rng(0).random((12, 6)))
    command = ["nmf", store, "-k", "3", "--output", str(tmp_path / "n"), "--workers", "0", "--no-progress"]
    made = CliRunner().invoke(main, [*command, "--solver", "exact", "--max-passes", "1"])
    assert made.exit_code == 0
    assert "Raise --max-passes (1) or --tol (1e-05)." in made.stderr
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 1
    assert "is already there. Add --overwrite to replace it" in again.stderr
    refused = CliRunner().invoke(main, ["run", store, "--output", str(tmp_path / "r"), "--max-dist", "2"])
    assert refused.exit_code == 2
    assert "--max-dist is 2.0; it must be a number" in refused.stderr
