"""What is most like a gene, or like several together, or like one and unlike others.

Cosine and correlation compare directions, so that an abundant gene is not nearer for being abundant; the Euclidean
distance compares the vectors as they are. See :mod:`cagdask.vectors.questions` for how a store is searched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask.compute.runner import Runner
from cagdask.errors import InputError
from cagdask.vectors.names import Names
from cagdask.vectors.opening import OpenVectors, open_vectors
from cagdask.vectors.options import SIMILAR
from cagdask.vectors.questions import Answer, Question, ask
from cagdask.vectors.ranking import directions
from cagdask.vectors.sources import Vectors
from cagdask.vectors.tables import Found, cut_columns

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)


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
    asked = [[genes] if isinstance(genes, str) else list(genes)]
    chosen = check_search([*asked], k=k, metric=metric, combine=combine)
    options: dict[str, Any] = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
    options |= {"normalization": normalization, "clr_floor": clr_floor}
    with open_similarity(source, **options) as session:
        return session.find(asked, **chosen)[0].to_table()


def check_search(queries: Sequence[Sequence[str]], **options: Any) -> dict[str, Any]:
    """Refuse what can not be asked, before anything is opened; gives ``k``, ``metric`` and ``combine``.

    Raises
    ------
    ValueError, InputError
        Naming the parameter or the gene.
    """
    chosen = SIMILAR.check(**SIMILAR.defaults | options)
    for genes in queries:
        if not genes:
            raise ValueError("no gene is given; name one or more.")
        if len(set(genes)) < len(genes):
            twice = next(gene for i, gene in enumerate(genes) if gene in genes[:i])
            raise InputError(f"gene {twice!r} is given twice. Name every gene once.")
        if len(genes) == 1 and chosen["combine"] == "contrast":
            raise ValueError(f"`combine='contrast'` needs a gene to be unlike; {genes[0]!r} is alone. Name another.")
        if len(genes) > 1 and chosen["metric"] == "euclidean" and chosen["combine"] == "joint":
            raise ValueError(
                "`metric='euclidean'` has no sum of squared cosines to several genes. Use cosine or correlation, or "
                "`combine='contrast'`."
            )
    return chosen


# -- many questions ----------------------------------------------------------------------------------------------------


class SimilaritySession(OpenVectors):
    """Vectors opened for any number of questions about similarity."""

    def find(
        self, queries: Sequence[Sequence[str]], *, k: int = 10, metric: str = "cosine", combine: str = "joint"
    ) -> list[Found]:
        """The answer of :func:`cagdask.similar` to each query, in as few passes over the store as can be.

        Raises
        ------
        ValueError, InputError
            As :func:`cagdask.similar`; before anything is read where it can be.
        """
        chosen = check_search(queries, k=k, metric=metric, combine=combine)
        if not queries:
            return []
        self.names.rows([name for genes in queries for name in genes])  # all are known, before anything is read
        return _search(self.make_ready(), self.names, self.runner, queries, **chosen)


@contextmanager
def open_similarity(source: str | xr.Dataset, **options: Any) -> Iterator[SimilaritySession]:
    """Open vectors for any number of questions; see :func:`cagdask.similar` for the parameters.

    Options are those of :func:`cagdask.vectors.opening.open_vectors`.
    """
    with open_vectors(source, **options) as found:
        yield SimilaritySession(found.vectors, found.names, found.runner)


def search(
    vectors: Vectors, names: Names, runner: Runner, queries: Sequence[Sequence[str]], **options: Any
) -> list[pd.DataFrame]:
    """The tables of :func:`similar` for many queries, of vectors that are ready to be read."""
    return [found.to_table() for found in _search(vectors, names, runner, queries, **options)]


def _search(
    vectors: Vectors,
    names: Names,
    runner: Runner,
    queries: Sequence[Sequence[str]],
    *,
    k: int,
    metric: str,
    combine: str,
) -> list[Found]:
    flat = [name for genes in queries for name in genes]
    rows = names.rows(flat)
    wanted, place = np.unique(rows, return_inverse=True)
    found = directions(vectors.read_at(wanted), metric)
    if metric != "euclidean":
        without = np.flatnonzero(~np.asarray(found.any(axis=1))[place])
        if len(without):
            what = "constant" if metric == "correlation" else "zero"
            raise InputError(
                f"{vectors.url}: the vector of {flat[without[0]]!r} is {what}, so it has no direction and nothing is "
                "like it. Use `metric='euclidean'`, or ask for another."
            )
    questions, first = [], 0
    for genes in queries:
        here = slice(first, first + len(genes))
        own = rows[here].tolist()
        if len(set(own)) < len(genes):
            raise InputError(f"{', '.join(genes)}: two of these names are one gene. Name every gene once.")
        how = "one" if len(genes) == 1 else combine
        questions.append(Question(found[place[here]], how, tuple(own)))
        first += len(genes)
    answers = ask(vectors, runner, questions, k, metric)
    _warn(answers, vectors, k)
    return _described(names, answers, metric)


def _warn(answers: list[Answer], vectors: Vectors, k: int) -> None:
    fewest = min((len(answer.rows) for answer in answers), default=k)
    if fewest < k:
        logger.warning("%d %ss were asked for, and there are only %d others", k, vectors.thing, fewest)
    n_without = answers[0].n_without if answers else 0
    if n_without:
        logger.info("%d vectors without direction were left out", n_without)


def _described(names: Names, answers: list[Answer], metric: str) -> list[Found]:
    """Answers with names; looked up for all answers at once."""
    if not answers:
        return []
    rows = np.concatenate([answer.rows for answer in answers])
    scores = np.concatenate([answer.scores for answer in answers])
    described = names.columns(rows)
    columns: dict[str, Any] = {"gene": described.pop("gene"), "similarity": scores}
    if metric == "euclidean":
        columns["distance"] = -scores + 0.0
    parts = cut_columns(columns | described, [len(answer.rows) for answer in answers])
    return [Found(part, {"n_without_direction": answer.n_without}) for part, answer in zip(parts, answers, strict=True)]
