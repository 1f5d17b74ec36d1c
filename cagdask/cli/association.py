"""The command ``test``: which CAGs, genes or factors differ between groups of samples."""

from __future__ import annotations

import shlex
from typing import Any

import click

from cagdask.cli.next_steps import then
from cagdask.cli.options import COUNT, Outcome, Setting, computes
from cagdask.cli.task_help import TaskCommand


@click.command(name="test", cls=TaskCommand)
@click.argument("source", metavar="RESULT")
@click.option("--labels", required=True, metavar="COLUMN|FILE", help="Column of sample metadata, or a TSV or CSV.")
@click.option("--label-column", metavar="NAME", help="Column of the file with labels; default: its second.")
@click.option("--output", metavar="FILE", required=True, help="Table to make, .tsv or .parquet; a picture goes beside.")
@click.option(
    "--test",
    type=click.Choice(["rank-sum", "paired", "kruskal", "linear", "logistic"]),
    default="rank-sum",
    show_default=True,
    help="How groups are compared.",
)
@click.option("--groups", metavar="A,B", help="Labels to compare, the reference first; default: all, sorted.")
@click.option("--pairs", metavar="COLUMN", help="Column that names the pair of a sample, for --test paired.")
@click.option("--formula", metavar="TERMS", help="Covariates for linear and logistic, such as 'age + C(center)'.")
@click.option("--cohort", metavar="COLUMN", help="Test each cohort by itself, and combine them as random effects.")
@click.option("--min-size", type=COUNT, default=1, show_default=True, help="Genes of a CAG at least.")
@click.option(
    "--min-prevalence",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the samples in which a feature must be.",
)
@click.option("--zero-aware", is_flag=True, help="Test presence, and the amount where present, apart; combine both.")
@click.option("--fdr", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="What the summary counts.")
@computes
def test(setting: Setting, source: str, output: str, fdr: float, groups: str | None, **options: Any) -> Outcome:
    """Test which CAGs of a result, genes of a store, or factors of an nmf differ between labelled groups of samples."""
    from cagdask.cli.tables import table
    from cagdask.labels.association import associate

    chosen = tuple(groups.split(",")) if groups else None
    where = {"overwrite": setting.overwrite, **setting.where}
    frame = associate(source, output=output, groups=chosen, **options, **where)
    n = int((frame["q_value"] <= fdr).sum())
    n_tested = int(frame["p_value"].notna().sum())
    title = str(frame.columns[0])
    content = {"output": output, "n_features": len(frame), "n_tested": n_tested, "n_found": n, "fdr": fdr}
    rows = [
        [str(row[title]), f"{row['effect']:.3g}", f"{row['p_value']:.3g}", f"{row['q_value']:.3g}"]
        for row in frame.head(10).to_dict("records")
    ]
    text = f"{output}: {n:,} of {n_tested:,} tested {title}s differ at a false discovery rate of {fdr:g}"
    if rows:
        text += f"\n\n{table([title, 'effect', 'p value', 'q value'], rows)}"
    return content, f"{text}\n\n{_after(source, output, title)}"


def _after(source: str, output: str, title: str) -> str:
    """Where the files are, and what to do with them."""
    picture = f"{output.rpartition('.')[0]}.volcano.png"
    where, table = shlex.quote(source), shlex.quote(output)
    steps = [(f"cagdask plot volcano {table} -o volcano.html", "effects and p values, to point at")]
    if title == "cag":
        steps.insert(0, (f"cagdask report {where} --association {table} --overwrite", "show it with the groups"))
    return f"Written: {output}, {picture}\n\n{then(*steps)}"
