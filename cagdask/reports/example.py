"""A result of three CAGs, to draw a page of before there is another one.

Libraries load much of themselves when they are first used: whoever has drawn one page draws the next in a third of the
time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cagdask import schema
from cagdask.storage.views import ArrayView, StoreView

_SIZES = (3, 2, 1)
_N_SAMPLES = 4


class _InMemory(StoreView):
    @property
    def encoding(self) -> dict[str, str]:
        """Nothing: it has no source."""
        return {}


def result() -> StoreView:
    """The result, in memory, as :func:`cagdask.storage.look` would give it."""
    n_genes, n_cags = sum(_SIZES), len(_SIZES)
    of_dims = {"gene": n_genes, "cag": n_cags, "sample": _N_SAMPLES, "merge": n_genes - n_cags, "child": 2}
    special: dict[str, Any] = {
        "gene_id": np.array([f"gene {i}" for i in range(n_genes)], np.dtypes.StringDType()),
        "sample_id": np.array([f"sample {i}" for i in range(_N_SAMPLES)], np.dtypes.StringDType()),
        "gene_cag": np.repeat(np.arange(n_cags), _SIZES),
        "cag_size": np.array(_SIZES),
        "cag_abundance": np.eye(n_cags, _N_SAMPLES, dtype=np.float32) + 1,
        "merge_child": np.array([[0, 1], [2, 6], [3, 4]]),
    }
    names = [name for name, one in schema.VARIABLES.items() if set(one.dims) <= of_dims.keys()]
    made = {}
    for name in names:
        one = schema.VARIABLES[name]
        if name in special or one.dtype.startswith(("float", "int")):
            values = special.get(name, np.full([of_dims[dim] for dim in one.dims], 0.1, one.dtype))
            made[name] = ArrayView(values, one.dims, {})
    return _InMemory("", {"max_dist": 0.2, "kind": schema.RESULT_KIND}, made)


def draw() -> str:
    """Its page."""
    from cagdask.reports import page

    ds: Any = result()
    return page.render(ds)
