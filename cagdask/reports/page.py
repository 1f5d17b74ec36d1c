"""A result in numbers, and as one HTML page that needs nothing from elsewhere.

    findings   sentences: what was found, whether to trust it, what to do next
    charts     Vega-Lite, drawn by the page's script
    page_data  the tables that the page searches, compressed
    templates  report.html, report.css, report.js

The page has no time stamp: the same result gives the same bytes. A browser is told to load nothing from anywhere.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage
from cagdask.errors import SchemaError
from cagdask.plot.numbers import parameters_of
from cagdask.plot.results import open_result
from cagdask.reports import findings

if TYPE_CHECKING:
    import jinja2
    import xarray as xr

__all__ = ["open_result", "report", "summarize"]

_COLUMNS = ("size", "prevalence", "mean_abundance", "std_abundance", "entropy", "cohesion")
_WORDS = ("representative", "taxonomy", "description")


def summarize(result: str | xr.Dataset | storage.StoreView, *, n_largest: int = 10) -> dict[str, Any]:
    """A result in numbers that JSON can hold.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.
    n_largest
        CAGs to list.

    Returns
    -------
    dict
        ``n_genes``, ``n_samples``, ``n_cags``, ``n_alone`` (CAGs of one gene), ``n_filtered`` (genes left out),
        ``certified``, and ``largest``: one dict per CAG with its number, size and statistics.
    """
    ds = open_result(result)
    sizes = _sizes(ds)
    return {
        "n_genes": ds.sizes["gene"],
        "n_samples": ds.sizes["sample"],
        "n_cags": int((sizes > 0).sum()),  # an assignment leaves empty ones
        "n_alone": int((sizes == 1).sum()),
        "n_filtered": int(ds.sizes["gene"] - sizes.sum()),
        "certified": schema.is_certified(ds),
        "largest": _largest(ds, n_largest),
    }


def _sizes(ds: xr.Dataset | storage.StoreView) -> NDArray[np.int64]:
    """Genes per CAG.

    Raises
    ------
    SchemaError
        They can not be.
    """
    sizes = np.asarray(ds["cag_size"].values)
    if sizes.min(initial=0) < 0 or sizes.sum(dtype=float) > ds.sizes["gene"]:
        where = ds.encoding.get("source", "dataset")
        raise SchemaError(f"{where}: cag_size is damaged: its CAGs have more genes than there are, or less than none.")
    return sizes


def _largest(ds: xr.Dataset | storage.StoreView, n: int) -> list[dict[str, Any]]:
    columns = {name: ds[f"cag_{name}"].values[:n] for name in _COLUMNS if f"cag_{name}" in ds.variables}
    words = {name: ds[f"cag_{name}"].values[:n] for name in _WORDS if f"cag_{name}" in ds.variables}
    return [
        {"cag": i}
        | {name: _plain(values[i].item()) for name, values in columns.items()}
        | {name: str(values[i]) for name, values in words.items()}
        for i in range(min(n, ds.sizes["cag"]))
    ]


def _plain(value: float) -> float | None:
    """Give None for what JSON has no number for."""
    return value if math.isfinite(value) else None


# -- the page --------------------------------------------------------------------------------------------------------


def report(
    result: str | xr.Dataset,
    *,
    output: str | None = None,
    association: str | Sequence[str] | None = None,
    compare: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write a self-contained HTML page about a result.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.
    output
        File to write; by default ``report.html`` beside the result store.
    association
        Tables that ``cagdask test`` wrote for this result, to be shown with it. By default those TSV files beside the
        result store that begin like one.
    compare
        Another result to compare with: result store or folder of a run.
    overwrite
        Replace the file if it is there.

    Returns
    -------
    str
        Where the page is.

    Raises
    ------
    StoreError
        There is no such result, or the file is there already.
    ValueError
        No output is given for a dataset that is not a store.
    InputError
        A table is no test of the CAGs of this result, or the other result has no gene in common with it.
    """
    ds = open_result(result)
    if output is None:
        if "source" not in ds.encoding:
            raise ValueError("report: give output=, since this dataset is not a store.")
        output = storage.join(storage.parent_of(ds.encoding["source"]), "report.html")
    output = storage.absolute(output)
    storage.check_target(output, overwrite=overwrite)
    tables = [association] if isinstance(association, str) else association
    storage.write_bytes(output, render(ds, tables, compare).encode())
    return output


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cagdask.reports", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": format_number, "lines": lambda text: str(text).splitlines()}
    return environment.get_template("report.html")


def render(ds: xr.Dataset, association: Sequence[str] | None = None, compare: str | None = None) -> str:
    """The page as text; ``association`` and ``compare`` as for :func:`report`."""
    from cagdask.plot.samples import largest_over_samples, ordination_of, sample_table
    from cagdask.reports import additions, charts, page_data

    matrix = largest_over_samples(ds)
    ordination, n_compared = ordination_of(ds)
    column = findings.most_telling(ds, ordination)[1]
    sizes = _sizes(ds)
    index = page_data.gene_index(ds)
    tested = additions.associations(ds, association)
    other = additions.compared_with(ds, compare) if compare else None
    data: dict[str, Any] = {
        "charts": charts.page_charts(ds) | charts.added_charts(tested, other),
        "samples": charts.sample_data(ds, matrix, ordination, n_compared, column),
        "n_cags": int((sizes > 0).sum()),
        "cags": page_data.packed(page_data.cag_columns(ds, matrix.columns)),
        "genes": index,
    }
    return _template().render(
        name=findings.cohort_name(ds),
        headline=findings.headline(ds),
        trust=findings.trust(ds),
        cautions=findings.warnings_of(ds, ordination),
        method=findings.method(ds),
        steps=findings.next_steps(ds, column),
        summary=summarize(ds),
        n_listed=page_data.n_listed(sizes),
        has_index=index is not None,
        columns=list(data["samples"]["columns"]),
        column=column,
        brightness=data["samples"]["brightness"],
        not_shown=sorted(set(map(str, sample_table(ds))) - set(data["samples"]["columns"])),
        panels=sum(name.startswith("threshold") for name in data["charts"]),
        drawn=set(data["charts"]),
        tested=tested,
        other=other,
        attrs=ds.attrs,
        parameters=parameters_of(ds),
        versions=provenance.versions(),
        data=_as_script_data(data),
        program=charts.program(),
        style=_text_of("report.css"),
        script=_text_of("report.js"),
    )


def _text_of(name: str) -> str:
    from importlib import resources

    return resources.files("cagdask.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _as_script_data(content: Any) -> str:
    """JSON that can stand in a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return re.sub(r"[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)


def format_number(value: Any) -> str:
    """A number for people: thousands with commas, three digits of a fraction."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "–"
    return f"{value:.3g}" if 0 < abs(value) < 1000 else f"{value:,.0f}"
