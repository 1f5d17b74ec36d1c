"""What is known of CAGs, in a word or two."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr


def row_names(ds: xr.Dataset, cags: NDArray[np.int64]) -> list[str]:
    """What is known of these CAGs in a word or two: taxonomy or description of most genes, else a gene; or nothing."""
    for name in ("cag_taxonomy", "cag_symbol", "cag_description", "cag_representative"):
        if name in ds.variables and len(cags):
            values = ds[name][: int(cags.max()) + 1].values
            return [last_rank(str(values[cag])) for cag in cags.tolist()]
    return ["" for _ in cags]


def last_rank(text: str) -> str:
    """The last named rank of a lineage such as ``k__Bacteria; p__Firmicutes; s__``; other text as it is."""
    ranks = [part.strip() for part in re.split("[;|]", text)]
    if len(ranks) < 2:
        return text
    named = [rank for rank in ranks if not re.fullmatch("(?:[a-z]__)?", rank)]
    return named[-1] if named else ""
