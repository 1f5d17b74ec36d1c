"""Features of samples: what there is, which of it is best for a fold, and their values.

    rows of a store --block by block--> scores of every feature, from the training samples of each fold
                                        best n of a fold = features of that fold
    rows of a store --block by block--> values of the features that any fold uses, in the work folder

The store is read twice at most, and once where all features are used. Only chosen features are ever held together. A
feature's score for a label is the squared correlation of its ranks with having the label (``genes``, ``cags``,
``factors``), and every label in turn gets its next best feature, so that a rare label gets as many as others; or
(1 + p95) / (1 + mean), which needs no labels (``signal``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage, stores
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, SchemaError
from cagdask.factors.matrix import Matrix, open_matrix
from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class TrainFiles(Files):
    """Labels and training samples of every fold."""

    column: Int64 = array(np.int64, "sample", "column in the store")
    member: Bools = array(np.bool_, "sample, label", "which sample has which label")
    train: Bools = array(np.bool_, "fold, sample", "training samples of a fold")


class RankFiles(Files):
    """Scores of the features of a block, for each fold and label."""

    score: Float32 = array(np.float32, "fold, label, feature", "higher is better; 0 for a constant feature")


class ValueFiles(Files):
    """Values of the chosen features of a block."""

    row: Int64 = array(np.int64, "feature", "row in the store")
    values: Float32 = array(np.float32, "feature, sample", "as stored, of all samples of the store")


def normalization_of(result: str) -> str:
    """How the table was normalized whose means are the CAGs of a result; ``clr`` gives log ratios, below 0 too."""
    parameters = json.loads(str(storage.open_group(result).attrs.get("parameters", "{}")))
    return str(parameters.get("normalization", "none"))


@dataclass(frozen=True)
class Source:
    """Where features are.

    Attributes
    ----------
    kind
        ``genes``, ``cags``, ``factors`` or ``signal``.
    matrix
        Rows of a store; for factors, that of the samples x components, by whose columns features are.
    names
        Of factors; empty for others, whose names are read where they are needed.
    """

    kind: str
    matrix: Matrix
    names: tuple[str, ...]

    @property
    def n(self) -> int:
        """Features."""
        return len(self.names) or self.matrix.n_genes

    @property
    def n_samples(self) -> int:
        """Samples."""
        return self.matrix.n_samples

    def names_of(self, rows: Int64) -> list[str]:
        """Names of some features, rows rising."""
        return [self.names[row] for row in rows.tolist()] if self.names else self.matrix.names_of(rows)

    def tasks(self) -> list[tuple[int, int]]:
        """Rows of each task."""
        if self.names:
            return [(0, len(self.names))]
        return [self.matrix.rows(i, i + 1) for i in range(self.matrix.n_blocks)]


def reads_itself(url: str) -> bool:
    """Whether a source that is no store is read here: the folder of a run with CAGs, or of factors."""
    return any(storage.exists(storage.join(url, name)) for name in (stores.CAGS, stores.FACTORS))


def open_source(source: str, kind: str | None) -> Source:
    """The features of a store, result, run folder or folder of factors.

    Parameters
    ----------
    source
        Its URL.
    kind
        One of ``genes``, ``cags``, ``factors``, ``signal``; None for what the source holds.

    Raises
    ------
    SchemaError, StoreError
        It holds nothing of the kind.
    """
    factors = stores.in_folder(source, stores.FACTORS)
    is_factors = storage.exists(storage.join(factors, "zarr.json")) and (
        storage.look(factors).attrs.get("kind") == schema.FACTORS_KIND
    )
    if kind == "factors" or (kind is None and is_factors):
        if not is_factors:
            raise SchemaError(f"{source}: holds no factors. Name the output of cagdask nmf.")
        return _factors(factors)
    matrix = open_matrix(stores.abundance_url(source) if kind in ("genes", "signal") else source)
    is_cags = matrix.rows_are == "CAGs"
    if kind == "cags" and not is_cags:
        raise SchemaError(f"{source}: holds no CAGs. Cluster it first: cagdask run {source} --output FOLDER.")
    if is_cags and kind in ("genes", "signal"):
        raise SchemaError(f"{source}: holds CAGs. Name the store of genes that it was made from, or use features cags.")
    return Source(kind or ("cags" if is_cags else "genes"), matrix, ())


def identity_of(held: Source) -> str:
    """What must be the same for new samples: the normalization of genes, the partition of CAGs, the factors."""
    matrix = held.matrix
    if held.kind == "factors":
        return f"factors {matrix.digest}"
    group = storage.open_group(matrix.url)
    if matrix.rows_are == "genes":
        return f"normalization {group.attrs.get('normalization', 'none')}"
    labels = np.asarray(storage.open_array(matrix.url, "gene_cag")[:], np.int64)
    genes = [str(name) for name in np.asarray(storage.open_array(matrix.url, "gene_id")[:])]
    digest = provenance.digest(labels.tobytes() + "\n".join(genes).encode())
    return f"CAGs {digest[:16]}"


def _loadings(url: str) -> str:
    """The store with the loadings of factors: the same, or for new samples the one that they were projected onto."""
    group = storage.open_group(url)
    if "gene_loading" in group:
        return url
    named = json.loads(str(group.attrs.get("parameters", "{}"))).get("reference", "")
    reference = stores.in_folder(str(named), stores.FACTORS)
    if not storage.exists(storage.join(reference, "gene_loading")):
        raise InputError(f"{url}: was projected onto {named or 'factors'}, which are gone. Project the samples again.")
    return reference


def _factors(url: str) -> Source:
    latent = storage.open_array(url, "sample_latent")
    n_samples, k = latent.shape
    attrs = storage.open_group(url).attrs
    digest = provenance.digest(np.asarray(storage.open_array(_loadings(url), "gene_loading")[:]).tobytes())[:16]
    matrix = Matrix(url, "sample_latent", k, n_samples, n_samples, None, "sample_id",
                    str(attrs.get("sample_title", "sample_id")), digest, url)  # fmt: skip
    return Source("factors", matrix, tuple(f"NMF_{i}" for i in range(k)))


def read_rows(matrix: dict[str, Any], begin: int, end: int) -> Float32:
    """Features ``begin`` to ``end``, shape (n_features, n_samples); a task knows the matrix as JSON."""
    held = Matrix(**matrix)
    if held.name == "sample_latent":
        return np.ascontiguousarray(np.asarray(storage.open_array(held.url, held.name)[:], np.float32).T[begin:end])
    return held.read(begin, end)


# -- the best features of each fold ----------------------------------------------------------------------------------


def choose(source: Source, given: TrainFiles, n_features: int, runner: Runner, folder: str) -> list[Int64]:
    """Rows of the best features of every fold, rising, from its training samples alone.

    Parameters
    ----------
    source
        Features.
    given
        Labels and folds.
    n_features
        Of a fold, at most.
    runner, folder
        Where to compute, and where tasks put what they find.
    """
    n_folds = len(given.train)
    if source.n <= n_features:
        return [np.arange(source.n, dtype=np.int64)] * n_folds
    given.write(storage.join(folder, "train"))
    by_signal = source.kind == "signal"
    items = [(source.matrix.to_json(), begin, end, by_signal, storage.join(folder, "train"),
              storage.join(folder, f"rank-{begin}")) for begin, end in source.tasks()]  # fmt: skip
    weights = [end - begin for begin, end in source.tasks()]
    runner.map("choose features", rank_task, items, unit="features", weights=weights)
    parts = [RankFiles.open(item[-1]) for item in items]
    return [
        best_of(np.concatenate([part.score[fold] for part in parts], axis=1), n_features) for fold in range(n_folds)
    ]


def best_of(scores: Float32, n: int) -> Int64:
    """Rows of ``n`` features: the best of each label, then the second of each, and so on; rising.

    Parameters
    ----------
    scores
        Shape (n_labels, n_features).
    n
        At most as many as there are features.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    place = np.empty(scores.shape, np.int64)
    np.put_along_axis(place, order, np.broadcast_to(np.arange(scores.shape[1]), scores.shape), axis=1)
    rank, best = place.min(axis=0), scores.max(axis=0)
    return np.sort(np.lexsort((np.arange(len(rank)), -best, rank))[:n])


def rank_task(matrix: dict[str, Any], begin: int, end: int, by_signal: bool, train: str, folder: str) -> int:
    """Score features ``begin`` to ``end`` for each fold."""
    given = TrainFiles.open(train)
    values = read_rows(matrix, begin, end)[:, given.column]
    n_labels = 1 if by_signal else given.member.shape[1]
    made = np.zeros((len(given.train), n_labels, end - begin), np.float32)
    for fold, chosen in enumerate(np.asarray(given.train)):
        made[fold] = (
            signal_of(values[:, chosen]) if by_signal else association_of(values[:, chosen], given.member[chosen])
        )
    RankFiles(score=made).write(folder)
    return end - begin


def signal_of(values: Float32) -> Float64:
    """(1 + p95) / (1 + mean) of each row, shape (1, n_features)."""
    data = values.astype(np.float64)
    with np.errstate(all="ignore"):
        found = (1 + np.percentile(data, 95, axis=1)) / (1 + data.mean(axis=1))
    return np.asarray(np.nan_to_num(found)[None])


def association_of(values: Float32, member: Bools) -> Float64:
    """Squared correlation of the ranks of each row with having each label, shape (n_labels, n_features)."""
    from scipy.stats import rankdata

    rank = rankdata(values, axis=1)
    rank -= rank.mean(axis=1, keepdims=True)
    marks = member.astype(np.float64)
    marks -= marks.mean(axis=0)
    scale = (marks**2).sum(axis=0)[:, None] * (rank**2).sum(axis=1)
    return np.asarray(np.divide((rank @ marks).T ** 2, scale, out=np.zeros(scale.shape), where=scale > 0))


# -- their values ----------------------------------------------------------------------------------------------------


def gather(source: Source, rows: Int64, runner: Runner, folder: str) -> list[str]:
    """Write the values of some features, of all samples, by tasks; gives the folders of the parts, rows rising.

    Raises
    ------
    InputError
        A value is missing or infinite.
    """
    items = []
    for begin, end in source.tasks():
        own = rows[(rows >= begin) & (rows < end)]
        if len(own):
            place = storage.join(folder, f"values-{begin}")
            ValueFiles(row=own, values=np.zeros((len(own), 0), np.float32)).write(f"{place}-asked")
            items.append((source.matrix.to_json(), begin, end, f"{place}-asked", place))
    runner.map("read features", gather_task, items, unit="tasks")
    return [item[-1] for item in items]


def gather_task(matrix: dict[str, Any], begin: int, end: int, asked: str, folder: str) -> int:
    """Write the values of the features of a block that were asked for."""
    row = np.asarray(ValueFiles.open(asked).row)
    values = read_rows(matrix, begin, end)[row - begin]
    if not np.isfinite(values).all():
        at, sample = np.argwhere(~np.isfinite(values))[0].tolist()
        name = Matrix(**matrix).sample_names()[sample]
        raise InputError(f"{matrix['said']}: sample {name!r} has {values[at, sample]} in row {int(row[at])}. A "
                         "classifier needs a number for each feature; leave out the sample or the row.")  # fmt: skip
    ValueFiles(row=row, values=values).write(folder)
    return len(row)


def read_values(parts: list[str], rows: Int64, columns: Int64) -> Float32:
    """Values of some features of some samples, shape (n_samples, n_features), float32."""
    made = np.empty((len(columns), len(rows)), np.float32)
    for folder in parts:
        held = ValueFiles.open(folder)
        place = np.searchsorted(rows, held.row)
        place = np.minimum(place, len(rows) - 1)
        asked = rows[place] == held.row
        made[:, place[asked]] = held.values[asked][:, columns].T
    return made
