"""The command ``metrics``: how strong, common and specific every gene is."""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.options import Outcome, Setting, computes

_SHOWN = 10


@click.command()
@click.argument("source", metavar="STORE")
@click.option(
    "-o", "--output", metavar="FILE", required=True, help="Table to make, .tsv or .parquet; a picture goes beside."
)
@click.option(
    "--percentile",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    default=95.0,
    show_default=True,
    help="Of each gene over samples.",
)
@click.option(
    "--around",
    "n_around",
    type=click.IntRange(min=2),
    default=100,
    show_default=True,
    help="Samples around the percentile whose mean cosine similarity is computed.",
)
@click.option("--groups", metavar="COLUMN", help="Sample metadata: specificity over the means of its groups, too.")
@click.option("--compat", type=click.Choice(["archs4"]), help="Add the columns of ARCHS4's scripts.")
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
    return content, f"{output}: {len(frame):,} genes; the largest signals are of\n\n{text}"
