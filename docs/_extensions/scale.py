"""A directive that writes the results of ``scripts/benchmark_scale.py`` as a table.

In a Markdown page, ``{scale}`` makes it; each line of its content is the name of a case, and of each case there is a
line for every method that was measured.
"""

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).resolve().parent.parent / "explanation" / "scale.jsonl"
HEAD = (
    "| genes × samples | not 0 | by | wall s | CPU s | of it search | all processes MiB | largest worker MiB | "
    "multiply-adds | rounds | ARI, exact | ARI, planted |",
    "| --- " * 12 + "|",
)


def options_of(row: dict[str, Any]) -> str:
    """Method of a row, with the options that are not the usual ones."""
    return ", ".join([row["method"], *(f"`{name}` {value}" for name, value in row["options"])])


def number(row: dict[str, Any], name: str, form: str, times: float = 1.0) -> str:
    """A figure, or a dash where it was not measured."""
    value = row.get(name)
    return "–" if value is None else format(value * times, form)


def line(row: dict[str, Any]) -> str:
    """One measured run as a line of a Markdown table."""
    exact = "1 (certified)" if row.get("certified") else number(row, "ari_cagdask", ".3f")
    cells = [
        f"{row['genes']:,} × {row['samples']:,}",
        number(row, "density", ".1f", 100) + " %",
        options_of(row),
        number(row, "wall_s", ",.1f"),
        number(row, "cpu_s", ",.1f"),
        number(row, "search_cpu_s", ",.1f"),
        number(row, "peak_mib", ",.0f"),
        number(row, "worker_peak_mib", ",.0f"),
        number(row, "multiply_adds_share", ".2f", 100) + " %" if "multiply_adds_share" in row else "–",
        number(row, "rounds", ".0f"),
        exact,
        number(row, "ari_truth", ".3f"),
    ]
    return "| " + " | ".join(cells) + " |"


class Scale(SphinxDirective):
    """The directive ``scale``."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Parse the table as a part of the page."""
        self.env.note_dependency(str(RESULTS))
        rows = [json.loads(text) for text in RESULTS.read_text().splitlines()]
        wanted = [row for name in self.content for row in rows if row["name"] == name.strip()]
        machines = sorted({f"{row['machine']}; load at the end {row['load']}" for row in wanted})
        below = ["", f"*{machines[0].split(';')[0]}; loads of {', '.join(m.split()[-1] for m in machines)}.*"]
        return self.parse_text_to_nodes("\n".join([*HEAD, *map(line, wanted), *below]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("scale", Scale)
    return {"parallel_read_safe": True}
