"""A directive that shows the help of a program made with argparse.

``{program-help} package.module:function`` calls the function for a parser, and prints what its ``--help`` does.
"""

import os
from importlib import import_module
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class ProgramHelp(SphinxDirective):
    """The directive ``program-help``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Show the help at a fixed width."""
        module, function = self.arguments[0].split(":")
        parser = getattr(import_module(module), function)()
        with mock.patch.dict(os.environ, COLUMNS="100"):
            text = parser.format_help()
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("program-help", ProgramHelp)
    return {"parallel_read_safe": True}
