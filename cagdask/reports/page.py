"""A result in numbers, and as one HTML page that needs nothing from elsewhere.

Both read the arrays with a value per CAG, the labels of the genes one chunk at a time, and the profiles of the largest
CAGs; never the gene names. The page has no time stamp: the same result gives the same bytes.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage
from cagdask.errors import SchemaError

if TYPE_CHECKING:
    import jinja2
    import xarray as xr

N_LARGEST = 20
"""CAGs in the table and in the heat map of a report."""
MAX_COLUMNS = 160
"""Columns of the heat map; neighboring samples are averaged where there are more."""
MAX_POINTS = 1500
"""CAGs in the plot of prevalence against size."""

_COLUMNS = ("size", "prevalence", "mean_abundance", "std_abundance", "entropy", "cohesion")


def open_result(result: str | xr.Dataset) -> xr.Dataset:
    """The dataset of a result: given, a result store's URL, or the folder of a run that holds ``cags.zarr``.

    Raises
    ------
    StoreError
        Nothing is there.
    SchemaError
        It holds no CAGs.
    """
    if isinstance(result, str):
        inside = storage.join(result, "cags.zarr")
        ds = storage.open_dataset(inside if storage.exists(inside) else result)
        where = ds.encoding["source"]
    else:
        ds, where = result, "dataset"
    if "gene_cag" not in ds.variables:
        raise SchemaError(f"{where}: holds no CAGs. Cluster it first: cagdask cluster STORE --output URL.")
    schema.validate(ds, "gene_cag", "cag_size", "cag_abundance", where=where)
    return ds


def summarize(result: str | xr.Dataset, *, n_largest: int = 10) -> dict[str, Any]:
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
        "certified": _as_bool(ds.attrs.get("certified")),
        "largest": _largest(ds, n_largest),
    }


def _sizes(ds: xr.Dataset) -> NDArray[np.int64]:
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


def _as_bool(value: Any) -> bool | None:
    return None if value is None else str(value).lower() in ("true", "1")


def _largest(ds: xr.Dataset, n: int) -> list[dict[str, Any]]:
    columns = {name: ds[f"cag_{name}"].values[:n] for name in _COLUMNS if f"cag_{name}" in ds.variables}
    count = min(n, ds.sizes["cag"])
    return [{"cag": i} | {name: _plain(values[i].item()) for name, values in columns.items()} for i in range(count)]


def _plain(value: float) -> float | None:
    """Give None for what JSON has no number for."""
    return value if math.isfinite(value) else None


def parameters_of(ds: xr.Dataset) -> dict[str, Any]:
    """Read the ``parameters`` attribute of a result."""
    try:
        return dict(json.loads(ds.attrs.get("parameters", "{}")))
    except (TypeError, ValueError):
        return {}


# -- the page --------------------------------------------------------------------------------------------------------


def report(result: str | xr.Dataset, *, output: str | None = None, overwrite: bool = False) -> str:
    """Write a self-contained HTML page about a result.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.
    output
        File to write; by default ``report.html`` beside the result store.
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
    """
    ds = open_result(result)
    if output is None:
        if "source" not in ds.encoding:
            raise ValueError("report: give output=, since this dataset is not a store.")
        output = storage.join(storage.parent_of(ds.encoding["source"]), "report.html")
    output = storage.absolute(output)
    storage.check_target(output, overwrite=overwrite)
    storage.write_bytes(output, render(ds).encode())
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
    environment.filters |= {"number": format_number, "fixed": _fixed, "lines": lambda text: str(text).splitlines()}
    return environment.get_template("report.html")


def render(ds: xr.Dataset) -> str:
    """The page as text."""
    return _template().render(
        summary=summarize(ds, n_largest=N_LARGEST),
        attrs=ds.attrs,
        parameters=parameters_of(ds),
        versions=provenance.versions(),
        histogram=_histogram(_sizes(ds)),
        heat_map=_heat_map(ds),
        scatter=_scatter(_sizes(ds), ds["cag_prevalence"].values),
    )


def format_number(value: Any) -> str:
    """A number for people: thousands with commas, three digits of a fraction."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "–"
    return f"{value:.3g}" if 0 < abs(value) < 1000 else f"{value:,.0f}"


def _fixed(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _histogram(sizes: NDArray[np.int64]) -> dict[str, Any]:
    """CAGs by size in classes 1, 2, 3–4, 5–8, …; bar heights on a logarithmic scale."""
    edges = [1, 2, 3]
    while edges[-1] <= sizes.max(initial=1):
        edges.append((edges[-1] - 1) * 2 + 1)
    counts, _ = np.histogram(sizes, bins=[e - 0.5 for e in edges])
    top = max(1, math.ceil(math.log10(max(1, counts.max(initial=1)) + 1e-9)))
    bars = []
    for low, high, count in zip(edges, edges[1:], counts.tolist(), strict=False):
        label = f"{low:,}" if high - low == 1 else f"{low:,}–{high - 1:,}"
        share = 0.0 if count == 0 else (math.log10(count) + 0.3) / (top + 0.3)
        bars.append({"label": label, "count": count, "share": round(share, 4)})
    ticks = [{"label": f"{10**e:,}", "share": round((e + 0.3) / (top + 0.3), 4)} for e in range(top + 1)]
    return {"bars": bars, "ticks": ticks}


def _heat_map(ds: xr.Dataset) -> dict[str, Any]:
    """Profiles of the largest CAGs, each as share of its own largest value."""
    values = ds["cag_abundance"][:N_LARGEST].values.astype(np.float64)
    names = [str(name) for name in ds["sample_id"].values]
    per_column = max(1, math.ceil(len(names) / MAX_COLUMNS))
    starts = np.arange(0, len(names), per_column)
    counts = np.diff(np.append(starts, len(names)))
    means = np.add.reduceat(values, starts, axis=1) / counts if values.size else values
    low = np.minimum(means.min(axis=1, keepdims=True, initial=0), 0)
    width = means.max(axis=1, keepdims=True, initial=0) - low
    shares = np.divide(means - low, width, out=np.zeros_like(means), where=width > 0)
    columns = [
        names[start] if count == 1 else f"{names[start]} … {names[start + count - 1]}"
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True)
    ]
    rows = [
        [{"value": value, "color": _color(math.sqrt(share))} for value, share in zip(*row, strict=True)]
        for row in zip(means.tolist(), shares.tolist(), strict=True)
    ]
    legend = [_color(math.sqrt(step / 8)) for step in range(9)]
    return {"columns": columns, "rows": rows, "per_column": per_column, "legend": legend}


_DARK, _LIGHT = (8, 48, 107), (247, 250, 253)


def _color(share: float) -> str:
    mixed = (round(light + (dark - light) * share) for light, dark in zip(_LIGHT, _DARK, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _scatter(sizes: NDArray[np.int64], prevalence: NDArray[np.float32]) -> dict[str, Any]:
    """Prevalence against size of the largest CAGs of two genes or more; x runs over powers of ten."""
    grouped = np.flatnonzero(sizes >= 2)
    top = max(1, math.ceil(math.log10(max(2, int(sizes.max(initial=2))))))
    points = [
        {"cag": i, "size": int(sizes[i]), "prevalence": float(prevalence[i]), "x": round(math.log10(sizes[i]) / top, 4)}
        for i in grouped[:MAX_POINTS].tolist()
    ]
    ticks = [{"label": f"{10**e:,}", "x": round(e / top, 4)} for e in range(top + 1)]
    return {"points": points, "ticks": ticks, "n": len(grouped)}
