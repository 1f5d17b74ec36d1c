"""A directive and a role for the contributors' page: what is where in the package, taken from the package.

``{code-map}`` lists the packages in the order of the import contract in ``pyproject.toml``, the highest layer first,
each with the first sentence of its docstring and the same of its modules. ``{where}`tree/file.py name other``` shows a
file of the repository and names in it; a file or name that is not there is a warning, so the page can not name what
has moved.
"""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cagdask"
logger = logging.getLogger(__name__)


def layers() -> list[list[str]]:
    """Names in the package by layer of the import contract, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one["type"] == "layers"]
    return [re.split(r"\s*[|:]\s*", layer) for layer in contract["layers"]]


def sentence(path: Path) -> str:
    """The first line of a module's docstring, as Markdown."""
    text = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def members(folder: Path) -> list[Path]:
    """Modules and packages in a package, by name."""
    found = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    found += [path.parent for path in folder.glob("*/__init__.py")]
    return sorted(found)


def lines(path: Path, depth: int = 0) -> list[str]:
    """A module, or a package and what is in it, as a nested Markdown list."""
    indent = "  " * depth
    if path.is_file():
        return [f"{indent}- `{path.name}`: {sentence(path)}"]
    own = f"{indent}- **`{path.name}/`**: {sentence(path / '__init__.py')}"
    return [own, *(line for one in members(path) for line in lines(one, depth + 1))]


def code_map() -> list[str]:
    """The whole package as Markdown, one list for each layer."""
    found = []
    for layer in layers():
        for name in layer:
            path = PACKAGE / name
            found += lines(path if path.is_dir() else path.with_suffix(".py"))
    return found


def defined(path: Path) -> set[str]:
    """Names that a Python file defines at its top, and methods as ``Class.method``."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        targets: list[Any] = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def faults(text: str) -> list[str]:
    """What is wrong with the text of a ``where``: a file that is not there, names that it does not define."""
    place, *names = text.split()
    path = ROOT / place
    if not path.exists():
        return [f"there is no {place}"]
    if not names:
        return []
    missing = sorted(set(names) - defined(path))
    return [f"{place} does not define {', '.join(missing)}"] if missing else []


class CodeMap(SphinxDirective):
    """The directive ``code-map``."""

    def run(self) -> list[nodes.Node]:
        """Parse the list as a part of the page."""
        return self.parse_text_to_nodes("\n".join(code_map()))


class Where(SphinxRole):
    """The role ``where``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """A literal with the file, and one for each name in it."""
        for fault in faults(self.text):
            logger.warning("where: %s", fault, location=self.get_location())
        place, *names = self.text.split()
        found: list[nodes.Node] = [nodes.literal(place, place)]
        for i, name in enumerate(names):
            found += [nodes.Text(", " if i else ": "), nodes.literal(name, name)]
        return found, []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive and the role."""
    app.add_directive("code-map", CodeMap)
    app.add_role("where", Where())
    return {"parallel_read_safe": True}
