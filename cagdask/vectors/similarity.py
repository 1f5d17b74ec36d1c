"""What is most like a gene, or like several together, or like one and unlike others.

Cosine and correlation compare directions, so that an abundant gene is not nearer for being abundant; the Euclidean
distance compares the vectors as they are. See :mod:`cagdask.vectors.questions` for how a store is searched.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask.compute.runner import Runner
from cagdask.errors import InputError
from cagdask.vectors.names import Names
from cagdask.vectors.questions import Answer, Question, ask
from cagdask.vectors.ranking import METRICS, directions
from cagdask.vectors.sources import Vectors, opened, prepared

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)

COMBINATIONS = ("joint", "contrast")


def similar(
    source: str | xr.Dataset,
    genes: str | Sequence[str],
    *,
    k: int = 10,
    metric: str = "cosine",
    combine: str = "joint",
    normalization: str | None = None,
    clr_floor: float | str | None = None,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> pd.DataFrame:
    """Find the genes that are most like a gene, or several.

    Parameters
    ----------
    source
        Path or URL of a store with a vector per gene: abundances (their profiles are normalized while they are read),
        an embedding, loadings of a factorization; or a result store, whose CAGs have mean profiles. Or such a dataset.
    genes
        A gene, or several, by id or symbol; of a result store, numbers of CAGs.
    k
        Genes to find. All, if there are fewer.
    metric
        ``cosine``, ``correlation`` (of the centered vectors) or ``euclidean``.
    combine
        Of several genes: ``joint`` ranks by the sum of squared similarities to each, ``contrast`` by the similarity to
        the first less the mean similarity to the others.
    normalization, clr_floor
        Of abundances, as for :func:`cagdask.normalize`; by default ``sum`` for abundances as ingested.
    client, n_workers, memory_limit
        As for :func:`cagdask.find_cags`; without the first two, vectors of up to 1 GiB are searched in this process.

    Returns
    -------
    DataFrame
        ``gene``, ``similarity`` (float64, best first; minus the distance for ``euclidean``), ``distance`` (only for
        ``euclidean``), and ``symbol`` and ``description`` where the store has them. The genes asked for are not among
        them. ``attrs["n_without_direction"]`` counts zero (or constant) vectors, which are like nothing.

    Raises
    ------
    InputError
        A gene is not known (the message has the nearest names), is given twice, or its vector has no direction.
    SchemaError, StoreError
        The store has no vectors, or can not be opened.
    ValueError
        A parameter is not known or out of range.

    Notes
    -----
    One pass over the store, exact, in float64; equal similarities are ordered by row. Memory of a task: one block of
    about 16 MiB and a few copies.
    """
    asked = [genes] if isinstance(genes, str) else list(genes)
    check_search(k, metric, combine, [asked])
    options = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
    with opened(source, normalize=normalization, clr_floor=clr_floor, **options) as (vectors, runner):  # type: ignore[arg-type]  # a dict of mixed values
        names = Names(vectors)
        names.rows(asked)  # all are known, before anything is read
        return search(prepared(vectors, runner), names, runner, [asked], k=k, metric=metric, combine=combine)[0]


def check_search(k: int, metric: str, combine: str, queries: Sequence[Sequence[str]]) -> None:
    """Refuse what can not be asked, before anything is opened.

    Raises
    ------
    ValueError, InputError
        Naming the parameter or the gene.
    """
    if k < 1:
        raise ValueError(f"k is {k}; ask for 1 gene or more.")
    for name, value, choices in (("metric", metric, METRICS), ("combine", combine, COMBINATIONS)):
        if value not in choices:
            raise ValueError(f"{name} {value!r} is not known; choose one of {', '.join(choices)}.")
    for genes in queries:
        if not genes:
            raise ValueError("no gene is given; name one or more.")
        twice = next((gene for i, gene in enumerate(genes) if gene in genes[:i]), None)
        if twice is not None:
            raise InputError(f"gene {twice!r} is given twice. Name every gene once.")
        if len(genes) == 1 and combine == "contrast":
            raise ValueError(f"combine contrast needs a gene to be unlike; {genes[0]!r} is alone. Name another.")
        if len(genes) > 1 and metric == "euclidean" and combine == "joint":
            raise ValueError(
                "metric euclidean has no sum of squared cosines to several genes. Use cosine or correlation, or "
                "combine contrast."
            )


def search(
    vectors: Vectors,
    names: Names,
    runner: Runner,
    queries: Sequence[Sequence[str]],
    *,
    k: int,
    metric: str,
    combine: str,
) -> list[pd.DataFrame]:
    """The tables of :func:`similar` for many queries, in as few passes over the store as can be."""
    flat = [name for genes in queries for name in genes]
    rows = names.rows(flat)
    wanted, place = np.unique(rows, return_inverse=True)
    found = directions(vectors.read_at(wanted), metric)
    if metric != "euclidean":
        without = np.flatnonzero(~found[place].any(axis=1))
        if len(without):
            what = "constant" if metric == "correlation" else "zero"
            raise InputError(
                f"{vectors.url}: the vector of {flat[without[0]]!r} is {what}, so it has no direction and nothing is "
                "like it. Use metric euclidean, or ask for another."
            )
    questions, first = [], 0
    for genes in queries:
        here = slice(first, first + len(genes))
        if len(set(rows[here].tolist())) < len(genes):
            raise InputError(f"{', '.join(genes)}: two of these names are one gene. Name every gene once.")
        how = "one" if len(genes) == 1 else combine
        questions.append(Question(found[place[here]], how, tuple(rows[here].tolist())))
        first += len(genes)
    answers = ask(vectors, runner, questions, k, metric)
    _warn(answers, vectors, k)
    return [_table(names, answer, metric) for answer in answers]


def _warn(answers: list[Answer], vectors: Vectors, k: int) -> None:
    fewest = min(len(answer.rows) for answer in answers)
    if fewest < k:
        logger.warning("%d %ss were asked for, and there are only %d others", k, vectors.thing, fewest)
    n_without = answers[0].n_without
    if n_without:
        logger.info("%d vectors without direction were left out", n_without)


def _table(names: Names, answer: Answer, metric: str) -> pd.DataFrame:
    import pandas as pd

    described = names.described(answer.rows.tolist())
    columns: dict[str, Any] = {"gene": [entry["gene"] for entry in described], "similarity": answer.scores}
    if metric == "euclidean":
        columns["distance"] = -answer.scores + 0.0
    for name in ("symbol", "description"):
        if described and name in described[0]:
            columns[name] = [entry[name] for entry in described]
    table = pd.DataFrame(columns)
    table.attrs = {"n_without_direction": answer.n_without}
    return table
