"""The second pass: label every item by its nearest representative, block by block.

    block of items, leaders.zarr --> label, distance, margin of the block, as files
    files --65,536 items at a time--> labels.zarr --> labels.parquet, and the numbers of the report

A task of the first kind holds one block of rows three times and the leaders, one of the others 65,536 items' numbers.
Each item is labeled by itself, so blocks of any size give the same bytes.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage
from cagdask.storage.arrays import Files, array
from cagdask.twopass import distances, sources

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ITEM_CHUNK = 65_536
"""Items per chunk of ``labels.zarr``, whatever the blocks."""
N_BINS = 50
UNASSIGNED = 0
"""Label of an item beyond ``max_dist``, or without a direction."""


class OrderFiles(Files):
    """Columns of the representatives' features in the items' table.

    Written before the second pass; read by :func:`label_block`.
    """

    place: Int64 = array(np.int64, "feature", "place of the leaders' feature in the items")


class LabelFiles(Files):
    """Labels of the items of a block. Written by :func:`label_block`, read by :func:`write_labels`."""

    label: Int64 = array(np.int64, "item", "cluster, from 1; 0 for none")
    distance: NDArray[np.float32] = array(np.float32, "item", "distance to the nearest leader, unit of the metric")
    margin: NDArray[np.float32] = array(np.float32, "item", "how much farther the nearest leader of another cluster is")


def block_bytes(n_rows: int, n_features: int, chunk: int, n_leaders: int) -> int:
    """Bytes of a task that labels ``n_rows`` items: as read, as numbers, made ready; one chunk; leaders; products."""
    return n_rows * (28 * n_features + 64) + chunk * 4 * n_features + n_leaders * (16 * n_features + 2048)


def label_block(
    items: dict[str, Any],
    begin: int,
    end: int,
    leaders: str,
    metric: str,
    max_dist: float | None,
    order: str | None,
    folder: str,
) -> dict[str, Any]:
    """Task: labels of the items ``begin:end``, as a :class:`LabelFiles`.

    ``order`` holds the places of the leaders' features in the items, None if they are the same. Gives the number of
    values that can not be used, and the first.
    """
    rows = sources.read_rows(sources.items_of(items), begin, end)
    counted = _bad_values(rows, begin)
    if counted["n_bad"]:
        return counted
    if order is not None:
        rows = rows[:, OrderFiles.open(order).place]
    label, distance, margin = _labeled(rows, leaders, metric)
    if max_dist is not None:
        label[distance > max_dist] = UNASSIGNED
    LabelFiles(label=label, distance=distance.astype(np.float32), margin=margin.astype(np.float32)).write(folder)
    return counted


def count_bad(items: dict[str, Any], begin: int, end: int) -> dict[str, Any]:
    """Task: count values of the items ``begin:end`` that are missing or infinite, and locate the first."""
    return _bad_values(sources.read_rows(sources.items_of(items), begin, end), begin)


def _bad_values(rows: Float64, begin: int) -> dict[str, Any]:
    bad = ~sources.are_numbers(rows)
    n = int(np.count_nonzero(bad))
    if n == 0:
        return {"n_bad": 0}
    row, feature = divmod(int(np.argmax(bad)), rows.shape[1])
    return {"n_bad": n, "row": begin + row, "feature": feature}


def _labeled(rows: Float64, leaders: str, metric: str) -> tuple[Int64, Float64, Float64]:
    points = np.asarray(storage.open_array(leaders, "leader_vector")[:])
    cluster = np.asarray(storage.open_array(leaders, "leader_cluster")[:])
    ready = distances.made_ready(rows, metric)
    label, distance, margin = distances.nearest(ready, distances.made_ready(points, metric), cluster, metric)
    lost = distances.without_direction(ready, metric)
    label[lost], distance[lost], margin[lost] = UNASSIGNED, np.nan, np.nan
    if metric in distances.DIRECTIONS:  # a cosine off by a rounding error is no distance below 0
        np.clip(distance, 0, 2, out=distance)
    return label, distance, margin


def create_labels(url: str, n_items: int, attrs: dict[str, Any]) -> None:
    """Create ``labels.zarr``, its arrays still empty."""
    as_json = json.dumps(attrs, sort_keys=True)
    group = storage.create_group(
        url,
        {
            "schema_version": schema.SCHEMA_VERSION,
            "kind": schema.LABELS_KIND,
            "source": provenance.source(),
            "history": provenance.add_history("", f"label {as_json}"),
            "parameters": as_json,
        },
    )
    for name in ("item_id", "item_cluster", "item_distance", "item_margin"):
        storage.create_array(group, name, (n_items,), chunks=(ITEM_CHUNK,))


def write_labels(items: dict[str, Any], parts: list[tuple[str, int]], begin: int, end: int, url: str) -> int:
    """Task: write the items ``begin:end`` of ``labels.zarr``; no other task writes them.

    ``parts`` are the folders of :func:`label_block` that hold some of them, each with its first item.
    """
    files = [LabelFiles.open(part, max(begin - b, 0), end - b) for part, b in parts]
    for variable, values in {
        "item_cluster": np.concatenate([part.label for part in files]),
        "item_distance": np.concatenate([part.distance for part in files]),
        "item_margin": np.concatenate([part.margin for part in files]),
    }.items():
        storage.open_array(url, variable, writable=True)[begin:end] = values
    names = sources.read_names(sources.items_of(items), begin, end)
    storage.open_array(url, "item_id", writable=True)[begin:end] = names.astype(np.dtypes.StringDType())
    return end - begin


def summarize(url: str, leaders: str, drawn: bool) -> dict[str, Any]:
    """Task: summarize the labels, 65,536 items at a time; writes ``cluster_size``.

    ``drawn`` says that the leaders were drawn from these items: then it is counted how many kept their first label.
    """
    cluster, distance = (storage.open_array(url, name) for name in ("item_cluster", "item_distance"))
    n_clusters = int(np.asarray(storage.open_array(leaders, "leader_cluster")[:]).max())
    draw_row, draw_cluster = (np.asarray(storage.open_array(leaders, f"draw_{name}")[:]) for name in ("row", "cluster"))
    sizes = np.zeros(n_clusters + 1, np.int64)
    kept = lost = 0
    lost_first, largest = -1, 0.0
    for begin in range(0, cluster.shape[0], ITEM_CHUNK):
        label, far = np.asarray(cluster[begin : begin + ITEM_CHUNK]), np.asarray(distance[begin : begin + ITEM_CHUNK])
        sizes += np.bincount(label, minlength=len(sizes))
        nowhere = np.flatnonzero(np.isnan(far))
        lost_first = begin + int(nowhere[0]) if lost_first < 0 and len(nowhere) else lost_first
        lost += len(nowhere)
        largest = max(largest, float(np.nanmax(far, initial=0.0)))
        i, j = np.searchsorted(draw_row, [begin, begin + len(label)])
        kept += int(((label[draw_row[i:j] - begin] == draw_cluster[i:j]) & (draw_cluster[i:j] > 0)).sum())
    counts, edges = _histogram(distance, largest)
    group = storage.open_group(url, writable=True)
    storage.write_array(group, "cluster_size", sizes)
    storage.finish_group(storage.open_group(url, writable=True))
    found: dict[str, Any] = {
        "n_items": int(sizes.sum()),
        "sizes": sizes[1:].tolist(),
        "n_unassigned": int(sizes[UNASSIGNED]),
        "n_without_direction": lost,
        "first_without_direction": None if lost_first < 0 else str(storage.open_array(url, "item_id")[lost_first]),
        "distance_counts": counts,
        "distance_edges": edges,
    }
    if drawn:
        n = int((draw_cluster > 0).sum())
        found["kept_first_label"] = kept / n
    return found


def _histogram(distance: Any, largest: float) -> tuple[list[int], list[float]]:
    edges = np.linspace(0, largest or 1.0, N_BINS + 1)
    counts = np.zeros(N_BINS, np.int64)
    for begin in range(0, distance.shape[0], ITEM_CHUNK):
        far = np.asarray(distance[begin : begin + ITEM_CHUNK], np.float64)
        counts += np.histogram(far[~np.isnan(far)], edges)[0]
    return counts.tolist(), edges.tolist()


def write_table(labels: str, url: str) -> int:
    """Task: ``labels.parquet``: ``id``, ``cluster``, ``distance``, ``margin``, a row per item."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"id": ("item_id", pa.string()), "cluster": ("item_cluster", pa.int64())}
    columns |= {"distance": ("item_distance", pa.float32()), "margin": ("item_margin", pa.float32())}
    schema_ = pa.schema([(name, kind) for name, (_, kind) in columns.items()])
    held = {name: storage.open_array(labels, variable) for name, (variable, _) in columns.items()}
    n = held["cluster"].shape[0]
    with storage.open_output(url) as handle, pq.ParquetWriter(handle, schema_, compression="zstd") as writer:
        for begin in range(0, n, ITEM_CHUNK):
            batch = [
                pa.array(np.asarray(values[begin : begin + ITEM_CHUNK]), type=schema_.field(name).type)
                for name, values in held.items()
            ]
            writer.write_table(pa.Table.from_arrays(batch, schema=schema_))
    return n
