"""A directive that writes a table of what ``cagdask plan`` says of cohorts of some sizes.

In a Markdown page, ``{sizing}`` makes it; each line of its content is ``genes samples workers memory``. The samples
have a tenth of the genes each, as in a catalog of many cohorts, and the largest two tenths.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cagdask.compute.memory import format_bytes, parse_bytes
from cagdask.runs.input_shape import Shape
from cagdask.runs.planning import Plan, make_plan

HEAD = (
    "| genes × samples | workers of one core | tasks | largest task | store | while it runs | core hours | hours |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)
RECORD_BYTES = 180
"""Of a gene in a sample's JSON."""
NAME_BYTES = 30


def plan(n_genes: int, n_samples: int, n_workers: int, memory: str) -> Plan:
    """What a run on such a cohort would need."""
    found = n_genes // 10
    shape = Shape(
        source="sheet.json",
        format="sheet",
        n_genes=n_genes,
        n_samples=n_samples,
        n_values=found * n_samples,
        largest_bytes=2 * found * RECORD_BYTES,
        largest_values=2 * found,
        id_bytes=found * n_samples * NAME_BYTES,
    )
    return make_plan(shape, n_workers=n_workers, memory_limit=parse_bytes(memory))


def line(arguments: str) -> str:
    """One cohort as a line of a Markdown table."""
    n_genes, n_samples, n_workers, memory = arguments.split()
    made = plan(int(n_genes), int(n_samples), int(n_workers), memory)
    cells = [
        f"{int(n_genes):,} × {int(n_samples):,}",
        f"{n_workers} of {memory}",
        f"{made.n_tasks:,}",
        format_bytes(made.worst.task_bytes),
        format_bytes(made.store_bytes),
        format_bytes(made.work_bytes),
        f"{sum(stage.cpu_seconds for stage in made.stages) / 3600:,.2g}",
        f"{made.seconds / 3600:,.2g}",
    ]
    return "| " + " | ".join(cells) + " |"


class Sizing(SphinxDirective):
    """The directive ``sizing``."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Parse the table as a part of the page."""
        return self.parse_text_to_nodes("\n".join([*HEAD, *map(line, self.content)]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("sizing", Sizing)
    return {"parallel_read_safe": True}
