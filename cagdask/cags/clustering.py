"""Co-abundant gene groups of a store.

    store --statistics--> normalization --profiles--> fold --linkage--> merge tree --refinement--> CAGs --measure-->
    result

Each step is a stage of tasks on the workers (:mod:`cagdask.engine`); this module puts them in order, checks what it is
given before any of them, and publishes the result store at the end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cagdask import storage
from cagdask.cags.jobs import begin, check_source, finish, work_bytes
from cagdask.cags.parameters import Parameters
from cagdask.compute.connect import as_runner
from cagdask.compute.quick_start import import_meanwhile
from cagdask.compute.runner import Runner
from cagdask.io.inputs import as_store
from cagdask.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client


def find_cags(
    source: str | Any,
    *,
    output: str | None = None,
    normalization: str | None = None,
    clr_floor: float | str | None = None,
    max_dist: float | str = "auto",
    min_samples: int = 1,
    metric: str | None = None,
    linkage: str = "average",
    refine: str | None = None,
    refine_dist: float | None = None,
    search: str = "exact",
    probes: int = 8,
    fdr: float = 0.01,
    strata: str | None = None,
    unsupported: str = "guess",
    seed: int = 0,
    stability: int = 0,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """Find the co-abundant gene groups of a store, exactly.

    Without a threshold, groups of exact average linkage at a small distance are joined by their similarity without
    noise. With a number as ``max_dist`` the partition is that of ``scipy.cluster.hierarchy.linkage`` (average or
    single) cut there, for any number of genes; equal distances are broken by the smallest (gene row, gene row) pair.
    Computes at once.

    Parameters
    ----------
    source
        Path or URL of an abundance or expression store, of the folder of a run, or of a sample sheet or table; or a
        table in memory: see :func:`cagdask.as_dataset`.
    output
        Path or URL of the result store. None keeps the result in memory.
    normalization
        Per sample: ``sum``, ``median``, ``hellinger``, ``clr`` or ``none``; see :func:`cagdask.normalize`. None
        is ``clr``, and ``sum`` if ``max_dist`` is a number.
    clr_floor
        For ``clr``: ``"auto"``, log10 of a ratio, or None for the minimum of the table.
    max_dist
        ``"auto"``: no threshold; after linkage to 0.2, groups join by their similarity without noise (``clr_floor`` is
        then ``"auto"``, too), and an error rate is estimated. Or a number: groups join while their mean distance is at
        most this, in [0, 1), unit of ``metric``.
    min_samples
        Genes present in fewer samples are left out (label -1).
    metric
        ``cosine`` distance of the profiles, ``correlation`` (of the centered profiles) or ``spearman`` (of ranks).
        None is ``correlation``, and ``cosine`` if ``max_dist`` is a number.
    linkage
        ``average`` or ``single``. With ``single``, another ``refine`` or an approximate search, ``auto`` is 0.2.
    refine
        ``aggregate`` joins CAGs whose mean profiles are within ``refine_dist``; ``noise-corrected`` those that are one
        once noise is taken out, and estimates an error rate on shuffled genes; ``none`` does not join any. None is
        ``noise-corrected``, and ``aggregate`` if ``max_dist`` is a number.
    refine_dist
        Cosine distance in [0, 1); by default the smaller of ``max_dist`` and 0.2.
    search
        ``exact``, or ``approximate``: neighbors are looked for only around the ``probes`` pivots that are nearest to a
        gene (FAISS). Then the attribute ``certified`` is false, and ``search_recall`` holds the share of neighbors that
        was found of 1,000 genes, measured against the exact search.
    probes
        Pivots whose genes an approximate search looks at, at least 1.
    fdr
        For ``noise-corrected``: share of grouped genes that chance may have grouped, in (0, 0.5]; genes whose support
        is too small for it get the ``gene_status`` "too little support".
    strata
        For ``noise-corrected``: column of the sample metadata within whose values the samples of a gene are shuffled,
        so that genes of one site, depth or batch are compared with chance in that.
    unsupported
        For ``noise-corrected``: ``guess`` leaves genes with too little support in their groups, ``alone`` makes each a
        CAG of its own. They are marked in ``gene_status`` either way.
    seed
        Kept with the result. Only the shuffled genes, and the halves of ``stability``, depend on it.
    stability
        Times that the samples are split into two halves and both are clustered. ``cag_stability`` is the share of the
        splits in which both halves have the CAG, by a Jaccard index of its genes of at least 0.5. 0: none.
    overwrite
        Replace ``output``, once the new result is complete.
    client
        A Dask client, a scheduler's address or a :class:`cagdask.compute.runner.Runner`; None starts a LocalCluster of
        ``n_workers`` workers with ``memory_limit`` each.

    Returns
    -------
    Dataset
        The result store of the data model: ``gene_cag`` (gene) int64, ``merge_child`` (merge, child) int64,
        ``merge_height`` (merge) float64, ``cag_abundance`` (cag, sample) float32, and more. Lazy if ``output`` is
        given.

    Raises
    ------
    ValueError
        A parameter is not known or out of range.
    SchemaError, InputError, StoreError
        The source can not be clustered, or the output not written.
    MemoryLimitError
        A worker's memory does not suffice.

    References
    ----------
    .. [1] Minot and Willis (2019). Clustering co-abundant genes identifies components of the gut microbiome that are
       reproducibly associated with colorectal cancer and inflammatory bowel disease. Microbiome 7:110.
    """
    parameters = Parameters(
        normalization, clr_floor, max_dist, min_samples, metric, linkage, refine, refine_dist, search, probes, fdr,
        strata, unsupported, seed, stability,
    ).checked()  # fmt: skip
    if output is not None:
        storage.check_target(output, overwrite=overwrite)
    where: dict[str, Any] = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
    with (
        scratch_folder() as scratch,
        as_store(source, beside=output, **where) as store,
    ):
        n_genes, n_samples = check_source(store, parameters)
        target = storage.absolute(output) if output is not None else os.path.join(scratch, "result.zarr")
        with as_runner(**where, work_bytes=work_bytes(n_genes, n_samples)) as runner:
            import_meanwhile("xarray")  # a Dataset is made at the end
            cluster_store(storage.absolute(store), target, parameters, runner, overwrite=overwrite)
        return storage.open_dataset(target) if output is not None else storage.load_dataset(target)


def cluster_store(
    store: str, target: str, parameters: Parameters, runner: Runner, *, overwrite: bool
) -> dict[str, Any]:
    """Make the result store ``target``, or resume making it.

    Returns
    -------
    dict
        What the searches did: ``rounds`` and ``refine_rounds``, ``active`` (groups at the beginning of each round),
        ``pairs_evaluated`` (of groups, by all their samples), the counts of
        :data:`cagdask.engine.linkage.rounds.COUNTED`, ``multiply_adds_share`` (of those that comparing all pairs in
        full would take), and ``search_recall`` of an approximate search.
    """
    from cagdask.engine.linkage.rounds import COUNTED

    job, attrs = begin(store, target, parameters, runner, "find_cags", overwrite=overwrite)
    job.prepare()
    tree, found, linked = job.link()
    groups = job.refine(found)
    counts: dict[str, Any] = {
        "rounds": len(linked.active),
        "active": linked.active,
        "refine_rounds": len(groups.linked.active),
        **{name: getattr(linked, name) + getattr(groups.linked, name) for name in COUNTED},
    }
    counts["pairs_evaluated"] = counts["multiplied"]  # all others were decided by bounds
    counts["multiply_adds_share"] = counts["multiply_adds"] / (job.n_genes**2 * job.n_samples)
    if linked.recall is not None:
        attrs["search_recall"] = counts["search_recall"] = linked.recall
    certified = parameters.search == "exact"
    finish(job, target, tree, groups, attrs, "find_cags", certified=certified, about=counts)
    return counts
