"""How many components: stability of replicates, and error, over k.

One sketch of the largest k serves all; every k has its replicates and their consensus, none left out.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import provenance, storage
from cagdask.arguments import whole
from cagdask.compute.runner import Runner
from cagdask.errors import MemoryLimitError
from cagdask.factors import drawing, results
from cagdask.factors.factorization import begun
from cagdask.factors.matrix import reads_itself
from cagdask.factors.replicates import FARTHEST, find_consensus, replicate_seeds
from cagdask.factors.request import Request, taken
from cagdask.io.inputs import takes_any_input
from cagdask.reports.figures import save_figure

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

TABLE = "k_selection.tsv"
STABLE = 0.8
"""Stability from which the programs of a k are taken to come back."""
FALL = 0.05
"""A fall of the stability from one k to the next that tells more than chance does."""


@takes_any_input(reads_itself)
def nmf_select(
    source: str,
    *,
    ks: list[int],
    output: str,
    n_replicates: int = 20,
    nonneg: str = "error",
    missing: str = "error",
    seed: int = 0,
    tol: float = 1e-4,
    max_passes: int = 200,
    orient: str = "genes-by-samples",
    id_column: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> pd.DataFrame:
    """Measure how stable factorizations into each number of components are.

    Parameters
    ----------
    source
        As for :func:`cagdask.nmf`.
    ks
        Numbers of components to try, each 2 or more.
    output
        Folder to make, with ``k_selection.tsv``, ``k_selection.png`` and ``nmf.json``.
    n_replicates
        Random beginnings of each.
    nonneg, missing, seed, tol, max_passes, orient, id_column, overwrite, client, n_workers, memory_limit
        As for :func:`cagdask.nmf`.

    Returns
    -------
    DataFrame
        One row per k: ``k``, ``stability`` (mean silhouette of the clustered programs, 1 if every replicate finds the
        same, 0 for a program that a replicate left empty), ``error`` (squared, of their medians, relative to the
        squares of the matrix), ``r2`` (the same about the gene means), ``n_programs``, ``n_not_converged``, the
        replicates whose passes did not suffice, and ``n_empty``, the programs that replicates left empty. ``nmf.json``
        has ``recommended_k``, the largest k that is stable, and ``recommended_because``.

    Raises
    ------
    ValueError, InputError, SchemaError, StoreError, MemoryLimitError
        As for :func:`cagdask.nmf`.

    Notes
    -----
    Four passes over the data, whatever the number of replicates.
    """
    wanted = sorted({whole("ks", k, least=2) for k in ks})
    if not wanted:
        raise ValueError("ks is empty; give numbers of components of 2 or more.")
    parameters = taken({"ks": wanted, "n_replicates": n_replicates, "nonneg": nonneg, "missing": missing, "seed": seed,
                        "tol": tol, "max_passes": max_passes, "orient": orient, "id_column": id_column})  # fmt: skip
    n_replicates, seed, tol = parameters["n_replicates"], parameters["seed"], parameters["tol"]
    max_passes = parameters["max_passes"]
    request = Request("nmf_select", source, output, parameters, wanted[-1], overwrite)
    request.check()
    with request.runner(client, n_workers, memory_limit) as runner:
        check_programs(wanted[-1] * n_replicates, runner)
        with begun(request, runner) as (job, folder):
            seeds = replicate_seeds(seed, n_replicates)
            rows = []
            for k in wanted:
                _, found = find_consensus(job, k, seeds, seed, FARTHEST, tol, max_passes)
                r2 = 1 - found["error"] * job.total / job.centered if job.centered > 0 else float("nan")
                counts = {name: found[name] for name in ("n_programs", "n_not_converged", "n_empty")}
                rows.append({"k": k, "stability": found["stability"], "error": found["error"], "r2": r2} | counts)
            _write(folder, request, rows, seeds, results.stage_usage(job), round(job.passes, 3))
    return read_selection(output)


def check_programs(n: int, runner: Runner) -> None:
    """Refuse more programs than can be compared pair by pair."""
    need = 6 * 8 * n**2
    if need > runner.task_budget:
        raise MemoryLimitError(
            f"consensus: {n:,} programs (components x replicates) need {need / 2**20:,.0f} MiB to compare, but a task "
            f"may use {runner.task_budget / 2**20:,.0f} MiB. Use fewer replicates, or a larger `memory_limit`."
        )


def read_selection(folder: str) -> pd.DataFrame:
    """The table of a selection."""
    import pandas as pd

    with storage.filesystem(storage.join(folder, TABLE))[0].open(storage.join(folder, TABLE)) as handle:
        return pd.read_csv(handle, sep="\t")


def recommended(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The k to use, ``recommended_k``, and why, ``recommended_because``.

    More components describe more of the data, so it is the largest k whose programs come back. Programs come back if
    the stability, with three decimals, is at least :data:`STABLE`, and if k is not beyond the largest fall of the
    stability, where that is :data:`FALL` or more: beyond the number of programs in the data, replicates split them
    differently. If no k is stable, it is the most stable one, the smaller of equal ones.
    """
    stability = {row["k"]: round(row["stability"], 3) for row in sorted(rows, key=lambda row: int(row["k"]))}
    best = max(stability, key=lambda k: (stability[k], -k))
    stable = [k for k, value in stability.items() if value >= STABLE]
    if not stable:
        why = f"no k reaches a stability of {STABLE:g}; this is the most stable one ({stability[best]:.3f})"
        return {"recommended_k": best, "recommended_because": why}
    falls = {k: stability[k] - stability[after] for k, after in itertools.pairwise(stability) if k in stable}
    before_fall = max(falls, key=lambda k: (falls[k], -k), default=max(stable))
    ends = falls.get(before_fall, 0.0) >= FALL and before_fall < max(stable)
    chosen = before_fall if ends else max(stable)
    what = "before the stability falls most, and" if ends else f"of {len(rows)} k whose stability is"
    why = f"the largest {what} at least {STABLE:g} ({stability[chosen]:.3f})"
    larger = [k for k in stability if k > chosen]
    if larger:
        why += f"; the next, k = {larger[0]}, has {stability[larger[0]]:.3f}"
    if best != chosen:
        why += f"; the most stable is k = {best} ({stability[best]:.3f})"
    return {"recommended_k": chosen, "recommended_because": why}


def _write(
    folder: str,
    request: Request,
    rows: list[dict[str, Any]],
    seeds: list[int],
    stages: list[dict[str, Any]],
    passes: float,
) -> None:
    lines = ["\t".join(rows[0])] + ["\t".join(repr(value) for value in row.values()) for row in rows]
    storage.write_bytes(storage.join(folder, TABLE), ("\n".join(lines) + "\n").encode())
    stability = [row["stability"] for row in rows]
    advised = recommended(rows)
    errors = [row["error"] for row in rows]
    figure = drawing.draw_selection([row["k"] for row in rows], stability, errors, advised["recommended_k"])
    save_figure(figure, storage.join(folder, "k_selection.png"))
    summary = {
        "command": request.command,
        "parameters": request.parameters,
        "input": request.said,
        "rows": rows,
        "most_stable_k": rows[int(np.argmax(stability))]["k"],
        **advised,
        "converged": not any(row["n_not_converged"] for row in rows),
        "replicate_seeds": seeds,
        "passes": passes,
        "versions": provenance.versions(),
        "stages": stages,
    }
    storage.write_json(storage.join(folder, results.SUMMARY), summary)
