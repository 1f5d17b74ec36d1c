"""The command ``metrics``: how strong, common and specific every gene is."""

from __future__ import annotations

import shlex
from typing import Any

import click

from cagdask.cli.next_steps import then
from cagdask.cli.options import Outcome, Setting, computes, declared
from cagdask.cli.task_help import TaskCommand
from cagdask.expression.options import METRICS

_SHOWN = 10


@click.command(cls=TaskCommand)
@click.argument("source", metavar="STORE")
@click.option(
    "-o", "--output", metavar="FILE", required=True, help="Table to make, .tsv or .parquet; a picture goes beside."
)
@declared(METRICS)
@computes
def metrics(setting: Setting, source: str, output: str, **options: Any) -> Outcome:
    """Measure every gene of a store: signal, prevalence, entropy, specificity, likeness of its strongest samples.

    STORE is best the output of cagdask normalize.
    """
    from cagdask.cli.tables import table
    from cagdask.expression.measuring import expression_metrics

    frame = expression_metrics(source, output=output, overwrite=setting.overwrite, **options, **setting.where)
    best = frame.sort_values("signal", ascending=False, kind="stable").head(_SHOWN)
    rows = [
        [str(row["gene"]), f"{row['signal']:.3g}", f"{row['prevalence']:.3g}", f"{row['tau']:.3g}",
         f"{row['mean_cosine']:.3g}"]
        for row in best.to_dict("records")
    ]  # fmt: skip
    text = table(["gene", "signal", "prevalence", "tau", "mean cosine"], rows)
    content = {"output": output, "n_genes": len(frame), "median_signal": float(frame["signal"].median())}
    return content, f"{output}: {len(frame):,} genes; the largest signals are of\n\n{text}\n\n{_after(source, output)}"


def _after(source: str, output: str) -> str:
    """Where the files are, and what to do next."""
    command = f"cagdask similar {shlex.quote(source)} GENE"
    return f"Written: {output}, and a picture beside it\n\n{then((command, 'the genes most like one'))}"
