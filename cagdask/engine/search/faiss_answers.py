"""What FAISS answers, believed only where it can be right.

    rows, queries --FAISS--> similarity, number --checked--> number, or an error that names the version

A search that failed inside FAISS is no error there: numbers are -1 and similarities the largest or the smallest float32
(some versions write one wrong row k times). Every search of this package passes through :func:`checked`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cagdask.compute import memory
from cagdask.errors import CagdaskError

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

LOOKED_AT = 256
"""Queries whose best similarity is computed again."""
TOLERANCE = 1e-3
"""How far the two may be apart, for rows of unit length: float32 products in any order are much closer."""


def checked(queries: Float32, stored: Float32, similarity: Float32, number: Int64, n_found: ArrayLike) -> Int64:
    """Refuse what FAISS answers if it can not be right.

    Parameters
    ----------
    queries, stored
        Rows that were searched for, shape (n_queries, n_columns), and those that were searched.
    similarity, number
        Products and rows of ``stored``, best first, shape (n_queries, k); number -1 where there are fewer.
    n_found
        How many there must be for each query, or for all.

    Returns
    -------
    array
        ``number``.

    Raises
    ------
    CagdaskError
        There are more or fewer answers, one is no row, or there twice, or a similarity is not that of its row.
    """
    there = number >= 0
    wanted = np.arange(number.shape[1]) < np.broadcast_to(np.asarray(n_found), len(number))[:, None]
    if (there != wanted).any() or (number >= len(stored)).any():
        raise _refused(f"found {int(there.sum()):,} rows where there are {int(wanted.sum()):,}")
    ordered = np.sort(number, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise _refused("found a row twice for one question")
    if not np.isfinite(similarity[there]).all():
        raise _refused("gave similarities that are no numbers")
    some = np.flatnonzero(there[:, 0]) if number.shape[1] else np.empty(0, np.int64)
    some = some[:: max(1, len(some) // LOOKED_AT)]
    again = np.einsum("ij,ij->i", queries[some], stored[number[some, 0]], dtype=np.float64)
    if (np.abs(again - similarity[some, 0]) > TOLERANCE * np.maximum(1, np.abs(again))).any():
        raise _refused("gave similarities that are not those of the rows it found")
    return number


def search_lists(stored: Float32, in_list: Int64, queries: Float32, asked: Int64, k: int) -> tuple[Int64, int]:
    """Rows with the largest products with each query, in the lists that are named for it.

    Parameters
    ----------
    stored
        Rows, shape (n, n_columns).
    in_list
        List of each, shape (n,).
    queries
        Shape (n_queries, n_columns).
    asked
        Lists to look into, each once, shape (n_queries, n_lists); -1 for none.
    k
        Rows to find for each query.

    Returns
    -------
    number, n_products
        Rows, best first, shape (n_queries, at most k), -1 where there are fewer; and the products that were made.

    Raises
    ------
    CagdaskError
        As for :func:`checked`.
    """
    import faiss
    from faiss.contrib.ivf_tools import add_preassigned, search_preassigned

    faiss.omp_set_num_threads(memory.task_threads())
    n_columns, n_lists = stored.shape[1], int(in_list.max()) + 1
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(n_columns), n_columns, n_lists, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True  # rows and queries come with their lists
    number = np.arange(len(stored))  # FAISS keeps no reference, only a pointer
    add_preassigned(index, np.ascontiguousarray(stored), in_list.astype(np.int64), number)
    asked = np.ascontiguousarray(-np.sort(-np.where(asked < n_lists, asked, -1), axis=1)[:, :n_lists], np.int64)
    index.nprobe = asked.shape[1]  # FAISS reads at most as many as there are
    k = min(k, len(stored))
    similarity, found = search_preassigned(index, np.ascontiguousarray(queries), k, asked)
    n_inside = np.append(np.bincount(in_list, minlength=n_lists), 0)[asked].sum(axis=1)
    return checked(queries, stored, similarity, found, np.minimum(k, n_inside)), int(n_inside.sum())


def _refused(what: str) -> CagdaskError:
    import faiss

    return CagdaskError(f"FAISS {faiss.__version__} {what}. Use another version of faiss-cpu.")
