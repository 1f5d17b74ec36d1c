"""The first pass: draw a sample, cluster it, choose the representatives of each cluster.

    drawn rows --distances, condensed--> linkage --cut into k--> clusters --rule--> leaders, leaders.zarr

All of it is one task, whose memory grows with the square of the sample: :func:`sample_bytes` says how, and
:func:`largest_sample` what fits.

``compat="mdtraj-notebook"`` repeats what a much copied notebook does: Ward's linkage of the *rows of the square
distance matrix*, taken for observations, and leaders drawn with replacement.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage
from cagdask.engine.linkage import tree
from cagdask.errors import InputError
from cagdask.storage.arrays import Files, array
from cagdask.twopass import distances, sources

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

DEFAULT_SAMPLE = 2000
COMPAT_STRIDE = 5

_STEP = 1e10  # sums of distances are compared in steps of the largest one / _STEP


class DrawnFiles(Files):
    """Rows of the sample. Written before the first pass; read by :func:`cluster_sample`."""

    item: Int64 = array(np.int64, "drawn", "rows of the drawn items, ascending")


class SampleFiles(Files):
    """The drawn items of one block. Written by :func:`read_drawn`; read by :func:`cluster_sample`."""

    vector: Float64 = array(np.float64, "drawn, feature", "values of the item")


@dataclass(frozen=True)
class Recipe:
    """What determines the clusters, apart from the items. See :func:`cagdask.two_pass` for the meaning."""

    k: int
    stride: int | None
    sample: int | None
    metric: str
    linkage: str
    n_leaders: int
    leader_rule: str
    seed: int
    compat: str | None


def sample_bytes(n: int, n_features: int, compat: str | None = None) -> int:
    """Bytes that clustering a sample takes: condensed distances twice (with compat, the square too), rows thrice."""
    return (16 if compat else 8) * n * n + 24 * n * n_features


def largest_sample(n_features: int, budget: int, compat: str | None = None) -> int:
    """Largest sample whose :func:`sample_bytes` fit a budget."""
    a, b = (16 if compat else 8), 24 * n_features
    n = int(((b * b + 4 * a * budget) ** 0.5 - b) / (2 * a))
    while sample_bytes(n + 1, n_features, compat) <= budget:
        n += 1
    while n > 0 and sample_bytes(n, n_features, compat) > budget:
        n -= 1
    return n


def drawn_items(n_items: int, recipe: Recipe) -> Int64:
    """Rows of the sample, ascending: every ``stride``-th item, or ``sample`` items drawn at random."""
    if recipe.stride is not None:
        return np.arange(0, n_items, recipe.stride)
    assert recipe.sample is not None
    if recipe.sample >= n_items:
        return np.arange(n_items)
    drawn = np.random.default_rng(recipe.seed).choice(n_items, recipe.sample, replace=False)
    return np.sort(drawn).astype(np.int64)


def read_drawn(items: dict[str, Any], begin: int, rows: list[int], folder: str) -> list[int]:
    """Task: read the sampled rows of one block; returns the rows with missing or infinite values."""
    source = sources.items_of(items)
    block = sources.read_rows(source, begin, rows[-1] + 1)
    found = block[np.asarray(rows) - begin]
    SampleFiles(vector=found).write(folder)
    bad: list[int] = np.asarray(rows)[~sources.are_numbers(found).all(axis=1)].tolist()
    return bad


# -- clustering ------------------------------------------------------------------------------------------------------


def link(between: Float64, n: int, recipe: Recipe) -> tuple[Float64, Int64]:
    """SciPy's linkage table of ``n`` items and the cluster of each, numbered from 1.

    Clusters are numbered by falling size, ties by first item; with compat as SciPy does.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist, squareform

    if n == 1:
        return np.empty((0, 4)), np.ones(1, np.int64)
    between = pdist(squareform(between), "euclidean") if recipe.compat else between
    exponent = distances.usual_exponent(between)  # ward squares them
    merges = linkage(np.ldexp(between, exponent), method=recipe.linkage)
    merges[:, 2] = np.ldexp(merges[:, 2], -exponent)
    found = fcluster(merges, t=recipe.k, criterion="maxclust").astype(np.int64)
    if recipe.compat:
        return merges, found
    first = np.unique(found, return_index=True)[1]
    return merges, tree.labels(first[found - 1], np.zeros(n, bool)) + 1


def pair_row(between: Float64, n: int, i: int, members: Int64) -> Float64:
    """Distances of item ``i`` to some others, from the condensed matrix; 0 to itself."""
    found = np.zeros(len(members))
    others = members != i
    low, high = np.minimum(members[others], i), np.maximum(members[others], i)
    found[others] = between[n * low - low * (low + 1) // 2 + high - low - 1]
    return found


def central(between: Float64, n: int, members: Int64, n_leaders: int) -> list[int]:
    """Representatives with the smallest sum of distances to the members: the build step of PAM (medoid first)."""
    near = np.full(len(members), np.inf)
    chosen: list[int] = []
    for _ in range(min(n_leaders, len(members))):
        totals = np.array([np.minimum(near, pair_row(between, n, i, members)).sum() for i in members.tolist()])
        totals = np.rint(totals / (totals.max() or 1.0) * _STEP)  # equal sums are equal in any order of additions
        totals[np.searchsorted(members, chosen)] = np.inf  # a duplicate of a leader lowers nothing, but is another item
        chosen.append(int(members[int(np.argmin(totals))]))
        near = np.minimum(near, pair_row(between, n, chosen[-1], members))
    return chosen


def spread(between: Float64, n: int, members: Int64, n_leaders: int) -> list[int]:
    """Representatives that are far apart: the medoid, then repeatedly the member farthest from all chosen."""
    chosen = central(between, n, members, 1)
    near = pair_row(between, n, chosen[0], members)
    while len(chosen) < min(n_leaders, len(members)):
        open_ = np.where(np.isin(members, chosen), -1.0, near)
        chosen.append(int(members[int(np.argmax(open_))]))
        near = np.minimum(near, pair_row(between, n, chosen[-1], members))
    return chosen


def leaders_of(between: Float64, label: Int64, recipe: Recipe) -> tuple[Int64, Int64]:
    """Positions in the sample of all representatives, and the cluster of each."""
    n = len(label)
    if recipe.compat:
        return _drawn_with_replacement(label, recipe)
    rng = np.random.default_rng(recipe.seed)
    chosen: list[int] = []
    of: list[int] = []
    for cluster in range(1, int(label.max()) + 1):
        members = np.flatnonzero(label == cluster)
        if recipe.leader_rule == "random":
            found = np.sort(rng.choice(members, min(recipe.n_leaders, len(members)), replace=False)).tolist()
        else:
            rule = central if recipe.leader_rule == "medoid" else spread
            found = rule(between, n, members, recipe.n_leaders)
        chosen += found
        of += [cluster] * len(found)
    return np.array(chosen, np.int64), np.array(of, np.int64)


def _drawn_with_replacement(label: Int64, recipe: Recipe) -> tuple[Int64, Int64]:
    """Representatives as the published notebook draws them: at random, with replacement."""
    rng = np.random.RandomState(recipe.seed)
    in_order = label[np.sort(np.unique(label, return_index=True)[1])]
    chosen = [rng.choice(np.flatnonzero(label == cluster), recipe.n_leaders) for cluster in in_order]
    return np.concatenate(chosen).astype(np.int64), np.repeat(in_order, recipe.n_leaders)


def cluster_sample(
    items: dict[str, Any], parts: list[str], drawn: str, recipe: dict[str, Any], attrs: dict[str, Any], url: str
) -> dict[str, Any]:
    """Task: cluster the rows of ``parts`` and write ``leaders.zarr``; gives counts for the report.

    Raises
    ------
    InputError
        Fewer drawn items than clusters have a direction.
    """
    chosen = Recipe(**recipe)
    source = sources.items_of(items)
    rows = DrawnFiles.open(drawn).item
    ready = distances.made_ready(_vectors(parts), chosen.metric)
    kept = np.flatnonzero(~distances.without_direction(ready, chosen.metric))
    if len(kept) < chosen.k:
        raise InputError(
            f"{source.name}: `k` is {chosen.k}, but only {len(kept)} of {len(rows)} drawn {source.kind} have a "
            f"direction (the others are zero, or constant, which {chosen.metric} has no distance for). Draw more, or "
            "use a smaller `k`."
        )
    ready = ready[kept] if len(kept) < len(rows) else ready
    chord = chosen.linkage == "ward" and not chosen.compat
    between = distances.among(ready, chosen.metric, chord=chord)
    del ready
    merges, label = link(between, len(kept), chosen)
    place, cluster = leaders_of(between, label, chosen)
    of_drawn = np.zeros(len(rows), np.int64)
    of_drawn[kept] = label
    at = rows[kept[place]]
    vectors = _vectors(parts)[kept[place]]
    _write_leaders(url, source, attrs, vectors, cluster, at, rows, of_drawn, merges)
    sizes = np.bincount(label)[1:]
    return {
        "n_drawn": len(rows),
        "n_drawn_without_direction": len(rows) - len(kept),
        "n_clusters": len(sizes),
        "drawn_sizes": sizes.tolist(),
        "n_leaders": np.bincount(cluster)[1:].tolist(),
        "cut_between": _cut_heights(merges, len(sizes)),
    }


def _vectors(parts: list[str]) -> Float64:
    return np.concatenate([files.vector for files in SampleFiles.open_all(parts)])


def _cut_heights(merges: Float64, n_clusters: int) -> list[float]:
    """Heights of the last merge below the cut and of the first above it."""
    made = len(merges) + 1 - n_clusters
    last = float(merges[made - 1, 2]) if made else 0.0
    return [last, float(merges[made, 2]) if made < len(merges) else last]


def _write_leaders(
    url: str,
    source: sources.Items,
    attrs: dict[str, Any],
    vectors: Float64,
    cluster: Int64,
    at: Int64,
    drawn: Int64,
    of_drawn: Int64,
    merges: Float64,
) -> None:
    names = sources.names_of(source, at.tolist())
    group = storage.create_group(url, attrs)
    for name, values in {
        "leader_vector": vectors,
        "leader_cluster": cluster,
        "leader_row": at,
        "leader_id": np.array(names, object),
        "feature_id": sources.features(source),
        "draw_row": drawn,
        "draw_cluster": of_drawn,
    }.items():
        storage.write_array(group, name, values)
    long_name = {"long_name": "The two nodes joined; node n_draws + i is merge i, as in SciPy"}
    storage.write_array(group, "merge_child", merges[:, :2].astype(np.int64), attrs=long_name)
    storage.write_array(group, "merge_height", np.ascontiguousarray(merges[:, 2]))
    storage.finish_group(group)


def leaders_attributes(source: sources.Items, recipe: Recipe, max_dist: float | None) -> dict[str, Any]:
    """Attributes of ``leaders.zarr``."""
    import json

    chosen = asdict(recipe) | {"max_dist": max_dist, "of": source.kind}
    as_json = json.dumps(chosen, sort_keys=True)
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": schema.LEADERS_KIND,
        "source": provenance.source(),
        "history": provenance.add_history("", f"two_pass {as_json}"),
        "parameters": as_json,
        "metric": recipe.metric,
        "linkage": recipe.linkage,
        "seed": recipe.seed,
    }
