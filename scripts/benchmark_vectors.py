"""Measure similarity and analogy search: time, memory, recall.

    python scripts/benchmark_vectors.py pairs --kind low-rank
    python scripts/benchmark_vectors.py recall
    python scripts/benchmark_vectors.py free-b
    python scripts/benchmark_vectors.py batches
    python scripts/benchmark_vectors.py store --genes 1000000 --samples 200

Processor times are of all threads together: on a busy machine set OPENBLAS_NUM_THREADS=1, since waiting BLAS threads
count. ``over start-up`` subtracts what the process held once everything was imported and compiled.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmarks.measuring import measured, show

KINDS = ("low-rank", "clusters", "isotropic")


def vectors(kind: str, n: int, d: int, seed: int) -> Any:
    """Vectors of one of :data:`KINDS`, shape (n, d), float32."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, d)).astype(np.float32)
    if kind == "low-rank":  # 32 directions, noise, and an offset as embeddings have
        low = rng.normal(size=(n, 32)).astype(np.float32) @ rng.normal(size=(32, d)).astype(np.float32)
        return low + np.float32(0.5) * noise + 3 * rng.normal(size=(1, d)).astype(np.float32)
    if kind == "clusters":  # 500 tight ones
        return rng.normal(size=(500, d)).astype(np.float32)[rng.integers(0, 500, n)] + np.float32(0.1) * noise
    return noise


def write_embedding(url: str, matrix: Any) -> None:
    """An embedding store."""
    import pyarrow as pa

    from cagdask.io.layout import create_store, plan_chunks, write_rows

    plan = plan_chunks(*matrix.shape, 2**30)
    create_store(url, plan, [], "embedding", {"history": ""})
    for begin, end in plan.blocks():
        names = pa.array([f"g{i}" for i in range(begin, end)], pa.string())
        write_rows(url, begin, names, matrix[begin:end])


@click.group()
def main() -> None:
    """Measure similarity and analogy search."""


# -- pairs -------------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--kind", type=click.Choice(KINDS), multiple=True, default=KINDS)
@click.option("--genes", default=20_000)
@click.option("--columns", default=512)
@click.option("--queries", default=30)
@click.option("--seed", default=0)
def pairs(kind: tuple[str, ...], genes: int, columns: int, queries: int, seed: int) -> None:
    """Pairs like a pair: once per store, per query, and without the bound."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in kind:
            write_embedding(f"{folder}/{name}.zarr", vectors(name, genes, columns, seed))
            command = [sys.executable, __file__, "one-pairs", f"{folder}/{name}.zarr", str(queries), str(seed)]
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            rows.append({"vectors": name} | json.loads(printed.splitlines()[-1]))
    show(rows, seed)


@main.command("one-pairs", hidden=True)
@click.argument("store")
@click.argument("queries", type=int)
@click.argument("seed", type=int)
def one_pairs(store: str, queries: int, seed: int) -> None:
    """One process of ``pairs``."""
    from cagdask.compute.memory import peak_bytes, reset_peak
    from cagdask.vectors.analogies.pairs import search_pairs
    from cagdask.vectors.analogies.rules import QueryMaker, Rules
    from cagdask.vectors.analogies.session import Session
    from cagdask.vectors.names import Names
    from cagdask.vectors.sources import opened

    with tempfile.TemporaryDirectory() as folder:  # so that everything is imported and compiled
        write_embedding(f"{folder}/tiny.zarr", vectors("isotropic", 700, 8, 0))
        with opened(f"{folder}/tiny.zarr") as (source, runner):
            Session(source, Names(source), runner).answer("g1", "g2", None, Rules(), k=10)
    reset_peak()
    start_up = peak_bytes()
    with opened(store) as (source, runner):
        session = Session(source, Names(source), runner)
        once = Timer()
        session.answer("g0", "g1", None, Rules(), k=10)
        once.stop()
        rows, index = session.index()
        rng = np.random.default_rng(seed + 1)
        walls, cpus, searches, shares = [], [], [], []
        for _ in range(queries):
            a, b = (int(i) for i in rng.choice(len(rows), 2, replace=False))
            timer = Timer()
            session.answer(f"g{a}", f"g{b}", None, Rules(), k=10)
            timer.stop()
            walls.append(timer.wall)
            cpus.append(timer.cpu)
            query = QueryMaker(index, rows, None, a, Rules()).query(b)
            search = Timer()
            found = search_pairs(index, query, 10)
            search.stop()
            searches.append(search.cpu)
            shares.append(found.n_multiplied / len(rows) ** 2)
        peak = peak_bytes() - start_up
        plain = Timer()
        same = search_pairs(index, query, 10, prune=False)
        plain.stop()
    matrix = index.rows.nbytes
    result = {
        "once, wall s": once.wall,
        "once, CPU s": once.cpu,
        "query, median wall s": float(np.median(walls)),
        "query, worst wall s": max(walls),
        "query, median CPU s": float(np.median(cpus)),
        "pairs multiplied, %": 100 * float(np.median(shares)),
        "plain, wall s": plain.wall,
        "plain / pruned, CPU": plain.cpu / float(np.median(searches)),
        "same answer": bool((same.c == found.c).all() and (same.d == found.d).all()),
        "peak over start-up, MiB": peak / 2**20,
        "peak / matrix": peak / matrix,
    }
    click.echo(json.dumps(result))


class Timer:
    """Wall and processor seconds of this process."""

    def __init__(self) -> None:
        self.begun = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Keep what has passed since the beginning."""
        self.wall, self.cpu = time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]


# -- the procedure with an index of all differences --------------------------------------------------------------------


def by_index(index: Any, left: Any, right: Any, query: Any, k: int, wanted: int, merge: bool) -> list[tuple[int, int]]:
    """Pairs from an index of the unit differences of all pairs i < j, asked for the query and for its opposite.

    ``merge=False`` goes through the two lists rank by rank, the second overwriting the first, as the program that is
    compared with does; ``merge=True`` sorts them together.
    """
    lists = []
    for sign in (1, -1):
        score, at = index.search((sign * query)[None].astype(np.float32), wanted)
        i, j = left[at[0]], right[at[0]]
        lists.append(list(zip(score[0], *((i, j) if sign > 0 else (j, i)), at[0], strict=True)))
    if merge:
        ranked = sorted((hit for hits in lists for hit in hits), key=lambda hit: -hit[0])
    else:
        ranked = [hit for _, hit in sorted({rank: hit for hits in lists for rank, hit in enumerate(hits)}.items())]
    return [(int(c), int(d)) for _, c, d, place in ranked if place >= 0]


@main.command()
@click.option("--genes", default=500)
@click.option("--columns", default=64)
@click.option("--queries", default=60)
@click.option("--seed", default=0)
def recall(genes: int, columns: int, queries: int, seed: int) -> None:
    """Share of the true ten best pairs that each way finds."""
    import faiss

    from cagdask.vectors.analogies.pair_index import PairIndex
    from cagdask.vectors.analogies.pairs import search_pairs
    from cagdask.vectors.analogies.rules import QueryMaker, Rules

    matrix = vectors("low-rank", genes, columns, seed)
    left, right = np.triu_indices(genes, 1)
    unit = (matrix[left] - matrix[right]).astype(np.float32)
    faiss.normalize_L2(unit)
    flat = faiss.IndexFlatIP(columns)
    flat.add(unit)
    n_lists = int(8 * np.sqrt(len(unit)))
    quantizer = faiss.IndexFlatIP(columns)
    inverted = faiss.IndexIVFFlat(quantizer, columns, n_lists, faiss.METRIC_INNER_PRODUCT)
    inverted.train(unit)
    inverted.add(unit)
    ways = {"flat index (exact)": (flat, None), "inverted, 512 lists": (inverted, 512),
            "inverted, 0.45 % of the lists": (inverted, max(1, round(0.0045 * n_lists)))}  # fmt: skip
    exact = PairIndex(matrix)
    rng = np.random.default_rng(seed + 1)
    asked = [tuple(int(i) for i in rng.choice(genes, 2, replace=False)) for _ in range(queries)]
    hits: dict[str, list[float]] = {f"{way}, {how}": [] for way in ways for how in ("as coded", "merged")}
    hits["cagdask"] = []
    unit64 = matrix[left].astype(np.float64) - matrix[right]
    unit64 /= np.linalg.norm(unit64, axis=1, keepdims=True)
    for a, b in asked:
        target = matrix[a].astype(np.float64) - matrix[b]
        score = unit64 @ (target / np.linalg.norm(target))
        both = [(s, i, j) for s, i, j in zip(score, left, right, strict=True)]
        both += [(-s, j, i) for s, i, j in both]
        other = [(s, int(i), int(j)) for s, i, j in both if not {a, b} & {int(i), int(j)}]
        truth = {(i, j) for _, i, j in sorted(other, reverse=True)[:10]}
        found = search_pairs(exact, QueryMaker(exact, np.arange(genes), None, a, Rules()).query(b), 10)
        hits["cagdask"].append(len(truth & set(zip(found.c.tolist(), found.d.tolist(), strict=True))) / 10)
        for way, (index, n_probe) in ways.items():
            if n_probe is not None:
                index.nprobe = n_probe
            for how in ("as coded", "merged"):
                ranked = by_index(
                    index, left, right, target / np.linalg.norm(target), 10, 10 * genes + 1, how == "merged"
                )
                kept = [pair for pair in ranked if not {a, b} & set(pair)][:10]
                hits[f"{way}, {how}"].append(len(truth & set(kept)) / 10)
    show([{"way": way, "recall@10": float(np.mean(values))} for way, values in hits.items()], seed)


# -- b free ------------------------------------------------------------------------------------------------------------


@main.command("free-b")
@click.option("--genes", default="1000,3000")
@click.option("--columns", default=64)
@click.option("--queries", default=3)
@click.option("--seed", default=0)
@click.option("--exact/--no-exact", default=True)
def free_b(genes: str, columns: int, queries: int, seed: int, exact: bool) -> None:
    """One gene given: the screen beside the exact search."""
    from cagdask.vectors.analogies.pair_index import PairIndex
    from cagdask.vectors.analogies.quadruples import in_full, screen
    from cagdask.vectors.analogies.rules import QueryMaker, Rules

    rows = []
    for kind in ("low-rank", "clusters"):
        for n in map(int, genes.split(",")):
            index = PairIndex(vectors(kind, n, columns, seed))
            index.nearest(1)
            rng = np.random.default_rng(seed + 1)
            costs: dict[str, list[float]] = {"screen": [], "exact": [], "agree": [], "certified": []}
            for a in rng.choice(n, queries, replace=False):
                maker = QueryMaker(index, np.arange(n), None, int(a), Rules())
                timer = Timer()
                found = screen(index, maker.others(), maker.query, 10)
                timer.stop()
                costs["screen"].append(timer.cpu)
                costs["certified"].append(float(found.certified.mean()))
                if exact:
                    timer = Timer()
                    whole = in_full(index, maker.others(), maker.query, 10, found.worst(10))
                    timer.stop()
                    costs["exact"].append(timer.cpu)
                    same = set(zip(found.b, found.c, found.d, strict=True)) & set(
                        zip(whole.b, whole.c, whole.d, strict=True)
                    )
                    costs["agree"].append(len(same) / 10)
            rows.append(
                {
                    "vectors": kind,
                    "genes": n,
                    "screen, CPU s": float(np.mean(costs["screen"])),
                    "exact, CPU s": float(np.mean(costs["exact"])) if exact else "",
                    "of the true ten": float(np.mean(costs["agree"])) if exact else "",
                    "certified": float(np.mean(costs["certified"])),
                }
            )
    show(rows, seed)


# -- a large store -----------------------------------------------------------------------------------------------------


@main.command()
@click.option("--genes", default=1_000_000)
@click.option("--samples", default=200)
@click.option("--seed", default=0)
@click.option("--keep", help="Folder for the stores, kept and used again.")
def store(genes: int, samples: int, seed: int, keep: str | None) -> None:
    """The ten profiles most like one, as a whole command, here and on two workers."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or temporary
        rows = []
        for name, n in (("tiny", 100), ("large", genes)):
            if not Path(f"{folder}/{name}.zarr").exists():
                write_profiles(f"{folder}/{name}.zarr", n, samples, seed)
        for where, options in (("in process", []), ("two workers", ["--workers", "2", "--memory-limit", "1GiB"])):
            found = {}
            for name, n in (("tiny", 100), ("large", genes)):
                command = [sys.executable, "-m", "cagdask", "similar", f"{folder}/{name}.zarr", f"gene-{n // 2:07d}"]
                found[name] = measured([*command, *options, "--json", "--no-progress"])
            over = found["large"]["peak_mib"] - found["tiny"]["peak_mib"]
            kept = {key: found["large"][key] for key in ("wall_s", "cpu_s", "peak_mib")}
            rows.append(
                {"": where, **kept, "peak over start-up, MiB": over, "start-up, wall s": found["tiny"]["wall_s"]}
            )
    show(rows, seed)


# -- many questions ----------------------------------------------------------------------------------------------------


@main.command()
@click.option("--genes", default=20_000)
@click.option("--columns", default=50)
@click.option("--queries", default=12_042)
@click.option("--seed", default=0)
def batches(genes: int, columns: int, queries: int, seed: int) -> None:
    """Many questions together, and how many of them have other answers than one product of NumPy."""
    from cagdask.vectors.analogies.rules import Rules
    from cagdask.vectors.analogies.session import open_analogies
    from cagdask.vectors.similarity import open_similarity

    matrix = vectors("low-rank", genes, columns, seed)
    asked = np.argsort(np.random.default_rng(seed + 1).random((queries, 64)), axis=1)[:, :3]
    asked = (asked + np.arange(queries)[:, None] * 7) % genes
    names = [tuple(f"g{i}" for i in row) for row in asked.tolist()]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_embedding(f"{folder}/v.zarr", matrix)
        for kind in ("analogy, add", "analogy, mul", "similar, cosine", "similar, euclidean"):
            way = kind.split(", ")[1]
            for some in (names[:20], names):  # the first so that everything is imported and compiled
                timer = Timer()
                if kind.startswith("analogy"):
                    with open_analogies(f"{folder}/v.zarr") as session:
                        found = session.find(some, Rules(), method=way)
                else:
                    with open_similarity(f"{folder}/v.zarr") as session:
                        found = session.find([[a] for a, _, _ in some], metric=way)
                timer.stop()
            plain = Timer()
            expected = by_product(matrix.astype(np.float64), asked, way)
            plain.stop()
            place = "gene_d" if kind.startswith("analogy") else "gene"
            other = sum(
                [int(name[1:]) for name in answer.columns[place]] != best.tolist()
                for answer, best in zip(found, expected, strict=True)
            )
            row = {"questions": kind, "wall s": timer.wall, "CPU s": timer.cpu, "NumPy, CPU s": plain.cpu}
            rows.append(row | {"other answers": other})
    show(rows, seed)


def by_product(x: Any, asked: Any, way: str, k: int = 10) -> Any:
    """The ten best rows for each question, from products of all rows with all questions, shape (n_questions, k)."""
    squares = (x**2).sum(axis=1)
    unit = x / np.sqrt(squares)[:, None]
    found = []
    for begin in range(0, len(asked), 500):
        some = asked[begin : begin + 500]
        a, b, c = some.T
        if way == "add":
            wanted = unit[c] + unit[b] - unit[a]
            scores = wanted / np.linalg.norm(wanted, axis=1, keepdims=True) @ unit.T
        elif way == "mul":
            near = [(1 + unit[rows] @ unit.T) / 2 for rows in (a, b, c)]
            scores = near[2] * near[1] / (near[0] + 1e-6)
        elif way == "cosine":
            scores = unit[a] @ unit.T
        else:
            scores = -np.sqrt(np.maximum(0, squares[a][:, None] + squares - 2 * (x[a] @ x.T)))
        left_out = some if way in ("add", "mul") else some[:, :1]
        np.put_along_axis(scores, left_out, -np.inf, axis=1)
        found.append(best_columns(scores, k))
    return np.concatenate(found)


def best_columns(scores: Any, k: int) -> Any:
    """The ``k`` columns of the highest scores of each row, best first, shape (n_rows, k); of equal ones the first.

    Sorting whole rows would take 10 times as long as the products.
    """
    worst = np.partition(scores, -k, axis=1)[:, -k]
    found = np.empty((len(scores), k), np.int64)
    for row, least, best in zip(scores, worst, found, strict=True):
        columns = np.flatnonzero(row >= least)
        best[:] = columns[np.argsort(-row[columns], kind="stable")[:k]]
    return found


def write_profiles(url: str, genes: int, samples: int, seed: int) -> None:
    """Genomes of 50 genes in a fifth of the samples, with noise."""
    import pyarrow as pa

    from cagdask.io.layout import create_store, plan_chunks, write_rows

    plan = plan_chunks(genes, samples, 2**30)
    create_store(url, plan, [f"s{j}" for j in range(samples)], "abundance", {"history": ""})
    for begin, end in plan.blocks():
        rng = np.random.default_rng([seed, begin])
        n = end - begin
        level = rng.lognormal(0, 1, (-(-n // 50), samples)) * (rng.random((-(-n // 50), samples)) < 0.2)
        block = (np.repeat(level, 50, axis=0)[:n] * rng.lognormal(0, 0.4, (n, samples))).astype(np.float32)
        write_rows(url, begin, pa.array([f"gene-{i:07d}" for i in range(begin, end)], pa.string()), block)


if __name__ == "__main__":
    main()
