"""Charts of a classification: how many samples a label has, how well it is given, and whether probabilities hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cagdask import storage
from cagdask.errors import InputError, SchemaError
from cagdask.plot.association import read_columns
from cagdask.plot.style import BLUE, ORANGE, SEQUENTIAL, WIDTH, configured, finished

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

MANY = 40
"""Labels of a chart: those with the most samples."""
ROW = 18
"""Pixels of a label."""
SQUARE = 340
"""Pixels of both sides of a chart of shares."""


def _read(folder: str, name: str) -> Any:
    content = storage.read_json(storage.join(folder, name))
    if content is None:
        raise SchemaError(f"{folder}: holds no {name}. Name the folder that cagdask classify made.")
    return content


def _split_of(folder: str, split: str | None) -> tuple[str, dict[str, Any]]:
    card = _read(folder, "model.json")
    chosen = split or card["main_split"]
    if chosen not in card["splits"]:
        raise ValueError(f"split is {chosen!r}; {folder} has {', '.join(card['splits'])}.")
    return chosen, card["splits"][chosen]


def label_counts(folder: str) -> alt.Chart:
    """Samples of each label, and which labels are learned.

    Parameters
    ----------
    folder
        Output of :func:`cagdask.classify`.
    """
    import altair as alt
    import pandas as pd

    labels = sorted(_read(folder, "model.json")["labels"], key=lambda one: (-one["n_samples"], one["label"]))[:MANY]
    rows = [
        {"label": one["label"], "samples": one["n_samples"], "status": one["why_not"] or "learned"} for one in labels
    ]
    chart = alt.Chart(pd.DataFrame(rows)).mark_bar().encode(
        x=alt.X("samples:Q", title="samples"),
        y=alt.Y("label:N", sort=[row["label"] for row in rows], title=None),
        color=alt.Color("status:N", title=None),
        tooltip=["label:N", "samples:Q", "status:N"],
    )  # fmt: skip
    return finished(chart, max(60, ROW * len(rows)))


def label_f1(folder: str, *, split: str | None = None) -> alt.Chart:
    """F1 of each label on held-out samples.

    Parameters
    ----------
    folder
        Output of :func:`cagdask.classify`.
    split
        ``random``, ``grouped`` or ``study``; by default the one whose numbers count.
    """
    import altair as alt
    import pandas as pd

    chosen, numbers = _split_of(folder, split)
    rows = sorted(numbers["labels"], key=lambda row: (-row["support"], row["label"]))[:MANY]
    table = pd.DataFrame(rows).drop(columns="auc")
    table["label"] = [f"{row['label']} ({row['support']})" for row in rows]
    chart = alt.Chart(table).mark_bar().encode(
        x=alt.X("f1:Q", title=f"F1 of held-out samples, {chosen} split", scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("label:N", sort=list(table["label"]), title=None),
        tooltip=["label:N", *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("precision", "recall", "f1"))],
    )  # fmt: skip
    return finished(chart, max(60, ROW * len(rows)))


def confusion(folder: str, *, split: str | None = None) -> alt.Chart | None:
    """Labels that held-out samples have, and labels that they were given; None where samples have several labels.

    Parameters
    ----------
    folder, split
        As for :func:`label_f1`.
    """
    import altair as alt
    import pandas as pd

    chosen, _ = _split_of(folder, split)
    held = _read(folder, "curves.json")[chosen].get("confusion")
    if held is None:
        return None
    given = [*held["labels"], "unknown"]
    rows = [{"label": label, "given": name, "samples": n, "share": n / max(1, sum(counts))}
            for label, counts in zip(held["labels"], held["counts"], strict=True)
            for name, n in zip(given, counts, strict=True)]  # fmt: skip
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X(
            "given:N",
            sort=given,
            title=f"label given ({chosen} split)",
            axis=alt.Axis(labelAngle=0 if _fit(given) else -90),
        ),
        y=alt.Y("label:N", sort=held["labels"], title="label of the sample"),
    )
    tiles = base.mark_rect().encode(
        color=alt.Color("share:Q", title="share of the row", scale=alt.Scale(scheme=SEQUENTIAL, domain=[0, 1])),
        tooltip=["label:N", "given:N", "samples:Q", alt.Tooltip("share:Q", format=".2f")],
    )
    text = base.mark_text(fontSize=10).encode(
        text="samples:Q", color=alt.condition("datum.share > 0.5", alt.value("black"), alt.value("white"))
    )
    return finished(tiles + text, max(80, 24 * len(held["labels"])))


def _fit(names: list[str]) -> bool:
    """Whether names stand side by side below a chart."""
    return 8 * max(map(len, names)) * len(names) < WIDTH


def roc(folder: str, *, split: str | None = None) -> alt.Chart:
    """True against false positive rate of each label, on held-out samples.

    Parameters
    ----------
    folder, split
        As for :func:`label_f1`.
    """
    import altair as alt
    import pandas as pd

    chosen, numbers = _split_of(folder, split)
    held = _read(folder, "curves.json")[chosen]["roc"]
    best = sorted(numbers["labels"], key=lambda row: (-row["support"], row["label"]))[:8]
    rows = []
    for row in best:
        auc = "-" if row["auc"] is None else f"{row['auc']:.2f}"
        said = f"{row['label']} (AUC {auc})"
        rows += [{"label": said, "false": x, "true": y, "step": i} for i, (x, y) in enumerate(held[row["label"]])]
    table = pd.DataFrame(rows, columns=["label", "false", "true", "step"])
    line = alt.Chart(table).mark_line(interpolate="step-after").encode(
        x=_share("false", f"false positive rate ({chosen} split)"),
        y=_share("true", "true positive rate", vertical=True),
        color=alt.Color("label:N", title=None),
        order="step:O",
    )  # fmt: skip
    return _square(line + _diagonal("false", "true"))


def calibration(folder: str, *, split: str | None = None) -> alt.Chart:
    """Share of held-out samples that have a label, against the probability that was said; over all labels.

    Parameters
    ----------
    folder, split
        As for :func:`label_f1`.
    """
    import altair as alt
    import pandas as pd

    chosen, _ = _split_of(folder, split)
    table = pd.DataFrame(_read(folder, "curves.json")[chosen]["calibration"])
    base = alt.Chart(table).encode(
        x=_share("probability", f"probability said ({chosen} split)"),
        y=_share("share", "share with the label", vertical=True),
        tooltip=[alt.Tooltip("probability:Q", format=".2f"), alt.Tooltip("share:Q", format=".2f"), "n:Q"],
    )
    size = alt.Size("n:Q", title="answers", scale=alt.Scale(range=[20, 300]))
    made = base.mark_line(color=BLUE) + base.mark_point(color=BLUE, filled=True).encode(size=size)
    return _square(made + _diagonal("probability", "share"))


def _share(name: str, title: str, *, vertical: bool = False) -> Any:
    """An axis from 0 to 1."""
    import altair as alt

    kind = alt.Y if vertical else alt.X
    return kind(f"{name}:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5, format=".1f"))


def _square(chart: Any) -> Any:
    """A chart whose axes are both from 0 to 1, with as many pixels."""
    return configured(chart.properties(width=SQUARE, height=SQUARE))


def _diagonal(x: str, y: str) -> Any:
    import altair as alt
    import pandas as pd

    table = pd.DataFrame({x: [0.0, 1.0], y: [0.0, 1.0]})
    return alt.Chart(table).mark_line(color=ORANGE, strokeDash=[4, 4], opacity=0.7).encode(x=f"{x}:Q", y=f"{y}:Q")


def real_and_synthetic(table: pd.DataFrame) -> alt.Chart:
    """Real and synthetic samples in the plane of two principal components.

    Parameters
    ----------
    table
        Columns ``kind`` ("real", or how a sample was made), ``label``, ``component_1``, ``component_2``.
    """
    import altair as alt

    shown = table.round(3).sort_values("label", key=lambda column: column != "other", kind="stable")
    chart = alt.Chart(shown).mark_point(size=35, opacity=0.7).encode(
        x=alt.X("component_1:Q", title="component 1"),
        y=alt.Y("component_2:Q", title="component 2"),
        color=alt.Color("label:N", title="rare label"),
        shape=alt.Shape("kind:N", title=None),
    )  # fmt: skip
    return finished(chart, 360)


def synthetic(folder: str) -> alt.Chart:
    """Real and synthetic samples of rare labels in the plane of two principal components.

    Parameters
    ----------
    folder
        Output of :func:`cagdask.augment`.

    Raises
    ------
    InputError
        It holds no such table.
    """
    url = storage.join(folder, "synthetic.tsv")
    if not storage.exists(url):
        raise InputError(f"{folder}: holds no synthetic.tsv. Name the folder that cagdask augment made.")
    return real_and_synthetic(read_columns(url, ("kind", "label", "component_1", "component_2"), "cagdask augment"))


MODEL_PLOTS: dict[str, Callable[..., Any]] = {
    "label-counts": label_counts,
    "label-f1": label_f1,
    "confusion": confusion,
    "roc": roc,
    "calibration": calibration,
}
"""Every picture of a classifier by its name on the command line."""
