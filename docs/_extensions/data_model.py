"""A directive that writes the tables of the data model from :data:`cagdask.schema.VARIABLES`.

In a Markdown page, ``{data-model} cag_* merge_*`` makes one table of the variables with such names. A variable that is
in no table of the docs is a warning.
"""

from fnmatch import fnmatchcase

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from cagdask import schema

HEAD = ("| variable | dims | dtype | unit | meaning |", "| --- | --- | --- | --- | --- |")
logger = logging.getLogger(__name__)
shown: set[str] = set()


def line(row: schema.Variable) -> str:
    """One variable as a line of a Markdown table."""
    return f"| `{row.name}` | {', '.join(row.dims)} | {row.dtype} | {row.units} | {row.long_name} |"


class DataModel(SphinxDirective):
    """The directive ``data-model``."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Parse the table as a part of the page."""
        patterns = self.arguments[0].split()
        names = [name for name in schema.VARIABLES if any(fnmatchcase(name, pattern) for pattern in patterns)]
        shown.update(names)
        return self.parse_text_to_nodes("\n".join([*HEAD, *(line(schema.VARIABLES[name]) for name in names)]))


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of variables that no page shows, where pages were read."""
    missing = sorted(set(schema.VARIABLES) - shown)
    if shown and missing:
        logger.warning("the data model's %s are in no table", ", ".join(missing))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("data-model", DataModel)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": False}
