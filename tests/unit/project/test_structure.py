"""The size of modules and functions: what is too large today is listed, and the lists may only shrink.

The table of the numbers is printed by ``python -m pytest -s tests/unit/project/test_structure.py -k table``.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "cagdask"

MODULE_LINES = 350
"""More than these are too long for a module."""

FUNCTION_LINES = 50
"""More than these, its docstring not counted, are too long for a function."""

PARAMETERS = 8
"""More than these are too many for a function; ``self`` is not counted, nor commands, whose options are parameters."""

LONG_MODULES: set[str] = set()
"""Too long today. No line may be added."""

LONG_FUNCTIONS: set[str] = set()
"""Too long today. No line may be added."""

MANY_PARAMETERS = {
    "cags/assignment.py: assign",
    "labels/association.py: associate",
    "cags/clustering.py: find_cags",
    "expression/normalizing.py: normalize_expression",
    "factors/consensus.py: nmf_consensus",
    "factors/factorization.py: nmf",
    "factors/projection.py: nmf_project",
    "factors/selection.py: nmf_select",
    "io/ingest.py: ingest",
    "runs/planning.py: plan",
    "twopass/sample.py: _write_leaders",
    "twopass/two_pass.py: label_by_leaders",
    "twopass/two_pass.py: two_pass",
    "vectors/analogies/session.py: analogies",
    "vectors/similarity.py: similar",
}
"""Too many parameters today. No line may be added."""


@dataclass(frozen=True)
class Function:
    """A function or method of the package.

    Attributes
    ----------
    name
        Its module and name.
    lines
        From ``def`` to its end, docstring and decorators not counted.
    n_parameters
        All of them, ``*args`` and ``**options`` counted as one each.
    is_command
        Whether click calls it.
    """

    name: str
    lines: int
    n_parameters: int
    is_command: bool


def module_lines(package: Path) -> dict[str, int]:
    """Lines of every module, by its path in the package."""
    return {
        path.relative_to(package).as_posix(): len(path.read_text().splitlines())
        for path in sorted(package.rglob("*.py"))
    }


def functions(package: Path) -> list[Function]:
    """Every function, nested ones and methods too."""
    found = []
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append(measure(node, module))
    return found


def measure(node: ast.FunctionDef | ast.AsyncFunctionDef, module: str) -> Function:
    """Size of one function."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    given = node.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    if parameters and parameters[0].arg in ("self", "cls"):
        parameters = parameters[1:]
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    is_command = any(".command(" in text or text == "functools.wraps(command)" for text in decorators)
    return Function(f"{module}: {node.name}", lines, len(parameters), is_command)


def check_only_shrinks(found: set[str], listed: set[str], too_large: str) -> None:
    """Fail for what is new, and for lines of a list that are not needed any more."""
    assert not found - listed, f"{too_large}: {sorted(found - listed)}. Split them; the list is not to grow"
    assert not listed - found, (
        f"no longer too large or gone: {sorted(listed - found)}. Delete their lines in {__file__}"
    )


def test_no_other_module_is_too_long() -> None:
    found = {name for name, lines in module_lines(PACKAGE).items() if lines > MODULE_LINES}
    check_only_shrinks(found, LONG_MODULES, f"modules of more than {MODULE_LINES} lines")


def test_no_other_function_is_too_long() -> None:
    found = {function.name for function in functions(PACKAGE) if function.lines > FUNCTION_LINES}
    check_only_shrinks(found, LONG_FUNCTIONS, f"functions of more than {FUNCTION_LINES} lines")


def test_no_other_function_has_too_many_parameters() -> None:
    found = {f.name for f in functions(PACKAGE) if f.n_parameters > PARAMETERS and not f.is_command}
    check_only_shrinks(found, MANY_PARAMETERS, f"functions of more than {PARAMETERS} parameters")


def test_table_of_the_structure(capsys: pytest.CaptureFixture[str]) -> None:
    """Print the numbers; they are also sensible ones, so that the tests above measure something."""
    modules, every = module_lines(PACKAGE), functions(PACKAGE)
    assert len(modules) > 100
    assert len(every) > 1000
    long_modules = sum(lines > MODULE_LINES for lines in modules.values())
    long_functions = sum(function.lines > FUNCTION_LINES for function in every)
    many = sum(f.n_parameters > PARAMETERS and not f.is_command for f in every)
    with capsys.disabled():
        print(f"\n{len(modules)} modules, {long_modules} of more than {MODULE_LINES} lines (wanted: 5 at most)")
        print(f"{len(every)} functions, {long_functions} of more than {FUNCTION_LINES} lines (wanted: 0)")
        share = many / len(every)
        print(f"{many} of more than {PARAMETERS} parameters, {share:.1%} (wanted: 1 % at most)")


def test_a_function_is_measured_without_docstring_and_self(tmp_path: Path) -> None:
    text = '''
import click

class Thing:
    def method(self, a, *rest, b=1, **more):
        """One

        two.
        """
        return a

@click.command("x")
def order(a, b, c, d, e, f, g, h, i):
    pass
'''
    (tmp_path / "m.py").write_text(text)
    assert functions(tmp_path) == [Function("m.py: order", 2, 9, True), Function("m.py: method", 2, 4, False)]
    assert module_lines(tmp_path) == {"m.py": len(text.splitlines())}


# -- words -------------------------------------------------------------------------------------------------------------

OLD_WORDS = {
    r"put to the (nearest|CAG)": "assigned to the nearest CAG",
    r"second pass of two": "assign unclustered or new genes to the nearest CAG",
    r"the fourth of three": "solve a : b :: c : d for the unknown genes",
    r"as far as the lists prove": "pairs that the neighbor lists prove",
    r"[Ww]hoever can prove nothing": "groups without a proven nearest neighbor",
    r"holds half a character": "contains an unpaired surrogate",
    r"has to know of every": "per-sample statistics",
    r"what noise has torn apart": "say what refinement joins, and why they were apart",
    r"can not be meant": "say what is not allowed",
    r"\bdef (said_of|made_again|tidy|_were|flat)\b": "a verb and the thing, or a term of the field",
    r"cagdask[./](leaders|answers|shapes|clusters|client|cohort)\b": "the module has another name now",
    r"(finished )?tasks of a stage answered": "saved results of finished tasks",
}
"""What readers had to read twice, and what to write instead."""

OLD_WORDS_LEFT: set[str] = set()
"""Where they still are. No line may be added."""


def old_words() -> set[str]:
    """Each file of the package, the docs and the README with an old word in it."""
    files = [ROOT / "README.md", *sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "docs").rglob("*.md"))]
    built = ROOT / "docs" / "_build"
    found = set()
    for path in files:
        if built not in path.parents:
            text = re.sub(r"\s+", " ", path.read_text())
            found |= {f"{path.relative_to(ROOT)}: {word}" for word in OLD_WORDS if re.search(word, text)}
    return found


def test_no_old_words_come_back() -> None:
    check_only_shrinks(old_words(), OLD_WORDS_LEFT, "words that readers do not understand, see OLD_WORDS")
