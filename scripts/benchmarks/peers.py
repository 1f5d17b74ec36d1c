"""Ways of others to the same result, and cagdask's own: each is measured as a process tree of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import numpy as np


def unit_profiles(store: str) -> tuple[Any, Any]:
    """Unit rows of the sum-normalized table, float64, and which genes they are."""
    import zarr

    table = zarr.open_group(store, mode="r")["abundance"][:].astype(np.float64)
    table /= table.sum(axis=0)
    length = np.linalg.norm(table, axis=1)
    here = np.flatnonzero(length > 0)
    return table[here] / length[here, None], here


def by_cagdask(store: str, max_dist: float, n_workers: int = 2) -> Any:
    """cagdask itself, unrefined, on a LocalCluster of two workers, or with 0 in threads of this process."""
    import cagdask

    found = cagdask.find_cags(store, max_dist=max_dist, refine="none", n_workers=n_workers, memory_limit="2GiB")
    labels = found.gene_cag.values
    return np.where(labels < 0, labels.max() + 1 + np.arange(len(labels)), labels)  # genes never seen, each alone


def by_fastcluster(store: str, max_dist: float) -> Any:
    """All distances, then fastcluster."""
    import fastcluster
    from scipy.cluster.hierarchy import fcluster
    from scipy.spatial.distance import pdist

    unit, here = unit_profiles(store)
    tree = fastcluster.linkage(pdist(unit, "cosine"), "average", preserve_input=False)
    return whole(fcluster(tree, max_dist, "distance"), here, store)


def by_composition(store: str, max_dist: float) -> Any:
    """FAISS range search, connected components, and fastcluster in each."""
    import faiss
    import fastcluster
    from scipy.cluster.hierarchy import fcluster
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    unit, here = unit_profiles(store)
    index = faiss.IndexFlatIP(unit.shape[1])
    unit32 = unit.astype(np.float32)
    index.add(unit32)
    begins, _, near = index.range_search(unit32, float(np.float32(1 - max_dist - 1e-5)))
    graph = csr_matrix((np.ones(len(near), bool), near, begins.astype(np.int64)), shape=(len(unit),) * 2)
    n_parts, part = connected_components(graph, directed=False)
    labels = np.empty(len(unit), np.int64)
    used = 0
    order = np.argsort(part, kind="stable")
    for members in np.split(order, np.searchsorted(part[order], np.arange(1, n_parts))):
        if len(members) == 1:
            labels[members] = used
            used += 1
            continue
        rows = unit[members]
        distance = np.maximum(1 - (rows @ rows.T.copy())[np.triu_indices(len(rows), 1)], 0)
        found = fcluster(fastcluster.linkage(distance, "average"), max_dist, "distance")
        labels[members] = used + found - 1
        used += int(found.max())
    return whole(labels, here, store)


def whole(labels: Any, here: Any, store: str) -> Any:
    """Labels of all genes of a store; those without a profile are alone."""
    import zarr

    n = zarr.open_group(store, mode="r")["abundance"].shape[0]
    everyone = labels.max() + 1 + np.arange(n)
    everyone[here] = labels
    return everyone


METHODS: dict[str, Callable[[str, float], Any]] = {
    "cagdask": by_cagdask,
    "cagdask-in-process": partial(by_cagdask, n_workers=0),
    "composition": by_composition,
    "fastcluster": by_fastcluster,
}


def installed(names: str) -> list[str]:
    """Of these methods, separated by commas, those whose packages are here; the others are named."""
    wanted = names.split(",")
    missing = importlib.util.find_spec("fastcluster") is None
    left_out = [name for name in wanted if missing and name in ("composition", "fastcluster")]
    if left_out:
        click.echo(f"{', '.join(left_out)} left out: fastcluster is not installed (cagdask[bench])", err=True)
    return [name for name in wanted if name not in left_out]


FIND_CAGS = """
import json, sys
import numpy as np, pandas as pd, zarr
from multiprocessing import Pool
from ann_linkage_clustering import lib
store, max_dist, to = sys.argv[1], float(sys.argv[2]), sys.argv[3]
table = zarr.open_group(store, mode="r")["abundance"][:].astype(float)
here = np.flatnonzero(table.any(axis=1))
if len(sys.argv) > 4:
    table = np.load(sys.argv[4]).astype(float)
df = pd.DataFrame(table[here], index=[f"g{i}" for i in here])
if len(sys.argv) == 4:
    df = df / df.sum()
with Pool(2) as pool:
    cags = lib.make_cags_with_ann(lib.make_nmslib_index(df), max_dist, df.copy(), pool, threads=2)
    lib.iteratively_refine_cags(cags, df.copy(), max_dist, threads=2)
labels = np.arange(len(table)) + len(cags)
for cag, genes in cags.items():
    labels[[int(g[1:]) for g in genes]] = cag
np.save(to, labels)
print(json.dumps({}))
"""


PANDAS_INGEST = """
import gzip, json, os, sys
import numpy as np, pandas as pd
sheet = sys.argv[1]
base = os.path.dirname(sheet)
columns = {}
for sample, path in json.load(open(sheet)).items():
    with gzip.open(os.path.join(base, path), "rt") as handle:
        records = json.load(handle)["results"]
    columns[sample] = pd.Series({r["id"]: np.float16(r["depth"]) for r in records})
table = pd.DataFrame(columns).fillna(0)
print(json.dumps({"shape": list(table.shape)}))
"""
