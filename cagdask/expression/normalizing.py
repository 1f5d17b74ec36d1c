"""Normalization of expression: length, then depth, then log, then quantiles, from a store to a new one.

======================  =======================================================  ===============
step                    value                                                    needs
======================  =======================================================  ===============
``cpm``                 v · 10⁶ / Σv                                             one pass of sums
``tpm``                 v / length · 10⁶ / Σ(v / length)                         the same
``rpkm``                v · 10⁹ / (length · Σv)                                  the same
``tmm``                 v · 10⁶ / (Σv · factor), factors with a product of 1     tiles
``median-of-ratios``    v / factor                                               tiles
``log``                 log2(1 + v)
``quantile``            mean of the sorted samples, in the order of the sample   tiles
======================  =======================================================  ===============

Steps are joined by ``+`` in this order: ``tpm+log+quantile``. ``quantile`` alone means ``log+quantile``.

What needs whole samples reads *tiles*: the table is turned once, from rows of genes to groups of samples, so that
neither a row nor a sample is read twice and no task holds more than its share.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage
from cagdask.compute.connect import as_runner
from cagdask.compute.memory import check_fits
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, SchemaError
from cagdask.expression import tasks
from cagdask.expression.lengths import read_lengths, without_version
from cagdask.io.layout import ChunkPlan, plan_chunks

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)

DEPTHS = ("cpm", "tpm", "rpkm", "tmm", "median-of-ratios")
BY_LENGTH = ("tpm", "rpkm")
STEPS = (*DEPTHS, "log", "quantile")
WITHOUT_LENGTH = ("error", "drop", "median")
ARCHS4 = "archs4"
TILE_BYTES = 2**28
"""Whole samples of one task, float32, at most."""
_NAMED = 5
_SCALE = {"long_name": "What the values of the sample were multiplied with"}
_TARGET = {"long_name": "Mean of the sorted samples: what the ranks of a sample become"}


def parse_method(method: str) -> tuple[str, ...]:
    """Steps of a method of expression, in order.

    Raises
    ------
    ValueError
        A step is not known, or out of order.

    Examples
    --------
    >>> parse_method("tpm+log"), parse_method("quantile")
    (('tpm', 'log'), ('log', 'quantile'))
    """
    steps = ("log", "quantile") if method == "quantile" else tuple(method.split("+"))
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        raise ValueError(f"method {unknown[0]!r} is not known; join steps of {', '.join(STEPS)} by +.")
    ranks = [0 if step in DEPTHS else STEPS.index(step) for step in steps]
    if ranks != sorted(set(ranks)):
        raise ValueError(f"method {method!r}: write one of {', '.join(DEPTHS)}, then log, then quantile, each once.")
    return steps


@dataclass(frozen=True)
class _Plan:
    """What a normalization does, known before any value is read."""

    steps: tuple[str, ...]
    compat: str | None
    url: str
    n_genes: int
    n_samples: int
    kept: NDArray[np.int64]
    length: NDArray[np.float64] | None

    @property
    def method(self) -> str:
        return self.compat or "+".join(self.steps)

    @property
    def depth(self) -> str | None:
        return next((step for step in self.steps if step in DEPTHS), None)

    @property
    def needs_tiles(self) -> bool:
        return "quantile" in self.steps or self.depth in ("tmm", "median-of-ratios")

    def tile_samples(self, budget: int) -> int:
        """Samples of a tile: whole groups that are sorted at once, within a quarter of what a task may hold."""
        n_genes = len(self.kept)
        group = tasks.group_samples(n_genes)
        return min(self.n_samples, max(1, min(TILE_BYTES, budget // 4) // (4 * n_genes) // group) * group)


def normalize_expression(
    source: str,
    *,
    output: str,
    method: str = "tpm+log+quantile",
    lengths: str | None = None,
    length_rule: str = "longest-transcript",
    length_column: str | None = None,
    without_length: str = "error",
    target: str | None = None,
    compat: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """Normalize a store of expression and write it as another store. Computes at once, out of core.

    Parameters
    ----------
    source
        Path or URL of an abundance or expression store with values >= 0.
    output
        Store to make.
    method
        Steps joined by ``+``, see the table of this module.
    lengths
        Annotation or table of gene lengths, see :func:`cagdask.expression.lengths.read_lengths`; by default the
        store's own ``gene_length``. Only for ``tpm``, ``rpkm`` and ``compat``.
    length_rule, length_column
        How an annotation gives a length, and which column of a table does.
    without_length
        Genes whose length is not known: an ``error``, left out (``drop``), or given the ``median`` of the others.
    target
        Earlier output whose quantiles to use, so that new samples are comparable; must have the same genes.
    compat
        ``archs4``: log, quantile, and then each value over the length of its gene, as the published scripts do.
    overwrite
        Replace ``output`` once the new one is complete.
    client, n_workers, memory_limit
        As for :func:`cagdask.find_cags`.

    Returns
    -------
    Dataset
        ``abundance``, float32, of kind expression; ``sample_scale`` (sample) where samples were scaled, and
        ``quantile_target`` (rank), float64, where there are quantiles.

    Raises
    ------
    ValueError
        A choice is not known, or options do not go together.
    InputError
        Values are negative, counts are no whole numbers, lengths are missing, or the target is of other genes.
    StoreError, SchemaError, MemoryLimitError
        A store can not be read or written, or a sample does not fit a worker.

    Notes
    -----
    ``quantile`` reads the table once, and its tiles twice. Its work folder takes twice the table on disk.
    """
    steps = _checked(method, lengths, without_length, target, compat)
    ds = _open(source)
    known = _lengths(ds, source, lengths, length_rule, length_column) if compat or set(steps) & set(BY_LENGTH) else None
    plan = _plan(ds, source, steps, compat, known, without_length)
    quantiles = _target(target, ds, plan) if target else None
    output = storage.absolute(output)
    storage.check_target(output, overwrite=overwrite)
    given = {"method": "+".join(steps), "length_rule": length_rule, "without_length": without_length, "compat": compat}
    marks = [None if one is None else provenance.digest(one.tobytes()) for one in (plan.kept, plan.length, quantiles)]
    recipe = {"command": "normalize", "source": plan.url, "digest": ds.attrs.get("input_digest"), "marks": marks}
    work_bytes = 4 * ds["abundance"].nbytes
    with as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=work_bytes) as runner:
        work, _ = storage.begin_work(output, recipe | given, overwrite=overwrite)
        try:
            run = _Run(plan, runner, work)
            run.go(ds, given, quantiles)
        except (ValueError, SchemaError):
            storage.end_work(output)
            raise
        storage.publish(storage.join(work, "store"), output)
        storage.end_work(output)
    return storage.open_dataset(output)


# -- what is asked for -----------------------------------------------------------------------------------------------


def _checked(
    method: str, lengths: str | None, without_length: str, target: str | None, compat: str | None
) -> tuple[str, ...]:
    if without_length not in WITHOUT_LENGTH:
        raise ValueError(f"without_length {without_length!r} is not known; use {', '.join(WITHOUT_LENGTH)}.")
    if compat not in (None, ARCHS4):
        raise ValueError(f"compat {compat!r} is not known; use {ARCHS4}.")
    steps = parse_method("quantile" if compat else method)
    if lengths and not compat and not set(steps) & set(BY_LENGTH):
        raise ValueError(f"gene lengths are for {' and '.join(BY_LENGTH)}, not for {method}. Leave them out.")
    if target and "quantile" not in steps:
        raise ValueError(f"a target is for quantile, not for {method}. Leave it out.")
    return steps


def _open(source: str) -> xr.Dataset:
    ds = storage.open_dataset(source)
    if ds.attrs.get("kind") == "embedding":
        raise SchemaError(f"{source}: holds embedding, which is not expression. Name a store of counts or abundances.")
    schema.validate(ds, "abundance", "gene_id", "sample_id", where=source)
    earlier = ds.attrs.get("normalization", "none")
    if earlier != "none":
        raise InputError(f"{source}: is normalized already, by {earlier}. Start from the values as ingested.")
    if not ds.sizes["gene"] or not ds.sizes["sample"]:
        raise InputError(f"{source}: is empty ({ds.sizes['gene']} x {ds.sizes['sample']}). Name another store.")
    return ds


def _lengths(ds: xr.Dataset, source: str, url: str | None, rule: str, column: str | None) -> NDArray[np.float64]:
    """Length of each gene of the store, float64, NaN where it is not known."""
    if url is None:
        if "gene_length" not in ds:
            raise InputError(f"{source}: has no gene_length. Give an annotation or a table with --lengths.")
        own = np.asarray(ds["gene_length"].values)
        if (own == 0).any():
            gene = str(ds["gene_id"].values[np.flatnonzero(own == 0)[0]])
            raise InputError(f"{source}: gene {gene!r} has length 0. A length must be 1 bp or more, or -1 for unknown.")
        return np.where(own > 0, own, np.nan).astype(np.float64)
    table = read_lengths(url, rule, column)
    return np.array([table.get(without_version(str(name)), np.nan) for name in ds["gene_id"].values], np.float64)


def _plan(
    ds: xr.Dataset,
    source: str,
    steps: tuple[str, ...],
    compat: str | None,
    length: NDArray[np.float64] | None,
    without: str,
) -> _Plan:
    n_genes = ds.sizes["gene"]
    kept = np.arange(n_genes, dtype=np.int64)
    if length is not None:
        unknown = np.flatnonzero(np.isnan(length))
        if len(unknown) == n_genes:
            raise InputError(f"{source}: none of its {n_genes:,} genes has a known length. Check how genes are named.")
        if len(unknown):
            names = ", ".join(map(str, ds["gene_id"].values[unknown[:_NAMED]]))
            said = f"{source}: {len(unknown):,} of {n_genes:,} genes have no known length ({names}, …)"
            if without == "error":
                raise InputError(f"{said}. Leave them out with --without-length drop, or use the median with median.")
            logger.warning("%s: %s.", said, "left out" if without == "drop" else "the median of the others is used")
        if without == "drop":
            kept = np.flatnonzero(~np.isnan(length)).astype(np.int64)
            length = length[kept]
        length = np.where(np.isnan(length), np.nanmedian(length), length)
    return _Plan(steps, compat, str(ds.encoding["source"]), n_genes, ds.sizes["sample"], kept, length)


def _target(target: str, ds: xr.Dataset, plan: _Plan) -> NDArray[np.float64]:
    other = storage.open_dataset(target)
    if "quantile_target" not in other:
        raise InputError(f"{target}: holds no quantile_target. Name the output of a normalization with quantile.")
    made_by = other.attrs.get("normalization")
    if made_by != plan.method:
        raise InputError(f"{target}: was made by {made_by}, not by {plan.method}. Use its method.")
    mine, theirs = set(map(str, ds["gene_id"].values[plan.kept])), set(map(str, other["gene_id"].values))
    if mine != theirs:
        raise InputError(
            f"{target}: has {len(theirs):,} genes, of which {len(theirs - mine):,} are not here (there are "
            f"{len(mine):,}). Quantiles need the same genes."
        )
    return np.asarray(other["quantile_target"].values, np.float64)


# -- doing it --------------------------------------------------------------------------------------------------------


class _Run:
    """One normalization in its work folder."""

    def __init__(self, plan: _Plan, runner: Runner, work: str) -> None:
        self.plan, self.runner, self.work = plan, runner, work
        self.done = storage.join(work, "done")
        self.out = plan_chunks(len(plan.kept), plan.n_samples, runner.task_budget)
        self.tile_samples = plan.tile_samples(runner.task_budget)
        if plan.needs_tiles:
            n_genes = len(plan.kept)
            need = 8 * n_genes * self.tile_samples + 4 * max(tasks.SORTED_BYTES, 8 * n_genes)
            check_fits("rank", need, f"{self.tile_samples:,} whole samples", runner.memory_limit)
        self.source = tasks.Source(
            url=plan.url, folder=self.path("plan"), tiles=self.path("tiles.zarr") if plan.needs_tiles else None,
            has=[], log="log" in plan.steps, counts=plan.depth in ("tmm", "median-of-ratios"),
        )  # fmt: skip
        tasks.RowFiles(kept=plan.kept).write(self.path("plan", "kept"))
        if plan.length is not None:
            name = "after" if plan.compat else "length"
            self._save(name, plan.length)
            self.source = replace(self.source, has=[name])

    def sample_groups(self) -> list[tuple[int, int]]:
        step = self.tile_samples
        return [(low, min(low + step, self.plan.n_samples)) for low in range(0, self.plan.n_samples, step)]

    def path(self, *parts: str) -> str:
        return storage.join(self.work, *parts)

    def _save(self, name: str, values: NDArray[Any]) -> None:
        tasks.VectorFiles(values=values).write(self.path("plan", name))

    def over(
        self, stage: str, task: Callable[..., Any], ranges: list[tuple[int, int]], *more: Any, unit: str = "genes",
        own_folder: bool = True,
    ) -> list[str]:  # fmt: skip
        """A stage over genes or samples; gives the folders that its tasks wrote."""
        places = [self.path(stage.replace(" ", "-"), str(low)) for low, _ in ranges]
        last = [(place,) if own_folder else () for place in places]
        given = asdict(self.source)
        items = [(given, *one, *more, *place) for one, place in zip(ranges, last, strict=True)]
        self.runner.map(stage, task, items, done=self.done, unit=unit, weights=[high - low for low, high in ranges])
        return places

    def go(self, ds: xr.Dataset, given: dict[str, Any], quantiles: NDArray[np.float64] | None) -> None:
        plan = self.plan
        total, per_length = self._sums(ds)
        if plan.needs_tiles:
            self._make_tiles()
        scale = self._scale(total, per_length)
        if scale is not None:
            self._save("scale", scale)
            self.source = replace(self.source, has=[*self.source.has, "scale"])
        ranked = None
        if "quantile" in plan.steps:
            quantiles = self._quantiles() if quantiles is None else quantiles
            self._save("target", quantiles)
            ranked = self.path("ranked.zarr")
            self._tiles_at(ranked)
            groups = self.sample_groups()
            self.over("rank", tasks.rank_task, groups, ranked, unit="samples", own_folder=False)
        self._write(ds, given, ranked, scale, quantiles)

    def _sums(self, ds: xr.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n_genes = len(self.plan.kept)
        n_parts = min(tasks.N_SUMS, n_genes)
        edges = [n_genes * i // n_parts for i in range(n_parts + 1)]
        places = self.over("sums", tasks.sums_task, list(pairwise(edges)))
        parts = [tasks.SumFiles.open(place) for place in places]
        total: NDArray[np.float64] = np.add.reduce([part.total for part in parts], axis=0)
        per_length: NDArray[np.float64] = np.add.reduce([part.per_length for part in parts], axis=0)
        self._save("root", np.add.reduce([part.root for part in parts], axis=0))
        least, most = np.min([part.least for part in parts], axis=0), np.max([part.most for part in parts], axis=0)
        samples = ds["sample_id"].values
        for wrong, said in ((most <= 0, "hold nothing"), ((least == most) & (most > 0), "have one value in all genes")):
            if wrong.any():
                names = ", ".join(map(str, samples[wrong][:_NAMED]))
                logger.warning("%d of %d samples %s: %s", wrong.sum(), len(samples), said, names)
        self._save("total", total)
        return total, per_length

    def _tiles_at(self, url: str) -> None:
        if storage.exists(url):
            return
        shape = (len(self.plan.kept), self.plan.n_samples)
        chunks = (self.out.block_rows, self.tile_samples)
        storage.create_array(storage.create_group(url, {}), "tiles", shape, chunks=chunks, dims=("gene", "sample"))

    def _make_tiles(self) -> None:
        assert self.source.tiles is not None
        self._tiles_at(self.source.tiles)
        places = self.over("turn", tasks.turn_task, self.out.blocks())
        parts = [tasks.GeneFiles.open(place) for place in places]
        log_mean = np.concatenate([part.log_mean for part in parts])
        present = np.concatenate([part.present for part in parts])
        tasks.GeneFiles(log_mean=log_mean, present=present).write(self.path("plan", "genes"))

    def _scale(self, total: NDArray[np.float64], per_length: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """What each sample is multiplied with; 0 for one that holds nothing."""
        depth = self.plan.depth
        if depth is None:
            return None
        if depth == "median-of-ratios":
            return 1 / self._ratio_factors()
        sums = per_length if depth == "tpm" else total
        per_million = np.divide(1e9 if depth == "rpkm" else 1e6, sums, out=np.zeros_like(sums), where=sums > 0)
        return per_million / self._tmm_factors(total) if depth == "tmm" else per_million

    def _tmm_factors(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        if (total <= 0).any():
            raise InputError(f"{self.plan.url}: {(total <= 0).sum()} samples hold nothing, which tmm can not scale.")
        groups = self.sample_groups()
        quartile = _joined(self.over("quartiles", tasks.quartile_task, groups, unit="samples"))
        quartile = quartile / total
        if np.median(quartile) < 1e-20:  # a sparse table: the fullest sample, as in edgeR
            reference = int(np.argmax(tasks.read_vector(self.path("plan"), "root")))
        else:
            reference = int(np.argmin(np.abs(quartile - quartile.mean())))
        places = self.over("factors", tasks.tmm_task, groups, reference, unit="samples")
        factors = _joined(places)
        found: NDArray[np.float64] = factors / np.exp(np.log(factors).mean())
        return found

    def _ratio_factors(self) -> NDArray[np.float64]:
        log_means = tasks.GeneFiles.open(self.path("plan", "genes")).log_mean
        if not np.isfinite(log_means).any():
            raise InputError(f"{self.plan.url}: no gene is in all samples, which median-of-ratios needs. Use tmm.")
        groups = self.sample_groups()
        return _joined(self.over("factors", tasks.ratio_task, groups, unit="samples"))

    def _quantiles(self) -> NDArray[np.float64]:
        places = self.over("add sorted", tasks.sorted_task, self.sample_groups(), unit="samples")
        total = np.zeros(len(self.plan.kept))
        for place in places:
            for part in tasks.SortedFiles.open(place).sums:
                total += part
        return total / self.plan.n_samples

    def _write(
        self,
        ds: xr.Dataset,
        given: dict[str, Any],
        ranked: str | None,
        scale: NDArray[np.float64] | None,
        quantiles: NDArray[np.float64] | None,
    ) -> None:
        staged = self.path("store")
        if not storage.exists(staged):
            _create_output(staged, ds, self.out, self.plan, given)
        self.over("write", tasks.write_task, self.out.blocks(), ranked, staged, own_folder=False)
        group = storage.open_group(staged, writable=True)
        if scale is not None:
            storage.write_array(
                group, "sample_scale", scale, dims=("sample",), attrs={"long_name": "Factor of a sample"}
            )
        if quantiles is not None:
            storage.write_array(group, "quantile_target", quantiles, dims=("rank",), attrs=_TARGET)
        storage.finish_group(group)


def _joined(places: list[str]) -> NDArray[np.float64]:
    return np.concatenate([tasks.VectorFiles.open(place).values for place in places])


def _create_output(staged: str, ds: xr.Dataset, out: ChunkPlan, plan: _Plan, given: dict[str, Any]) -> None:
    """The output store with its arrays, the genes' still empty; what is known of the samples is copied."""
    line = "normalize " + ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)
    attrs = {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": "expression",
        "source": provenance.source(),
        "normalization": plan.method,
        "history": provenance.add_history(str(ds.attrs.get("history", "")), line),
        "input_digest": provenance.digest(
            [ds.attrs.get("input_digest"), given, provenance.digest(plan.kept.tobytes())]
        ),
    }
    group = storage.create_group(staged, attrs)
    n, rows = len(plan.kept), out.block_rows
    storage.create_array(
        group, "abundance", (n, plan.n_samples), chunks=(out.chunk_rows, plan.n_samples), shards=(rows, plan.n_samples)
    )
    names = {str(name) for name, variable in ds.variables.items() if variable.dims == ("gene",)}
    if plan.length is not None:
        names.add("gene_length")
    for name in sorted(names):
        known = ds.variables.get(name)
        dtype = "str" if known is not None and known.dtype.kind in "OUT" else getattr(known, "dtype", None)
        more = {} if name in schema.VARIABLES else {"dims": ("gene",), "dtype": dtype}
        storage.create_array(group, name, (n,), chunks=(rows,), **more)  # type: ignore[arg-type]  # dims and dtype
    for key, variable in ds.variables.items():
        if variable.dims == ("sample",):
            more = {} if key in schema.VARIABLES else {"dims": ("sample",)}
            storage.write_array(group, str(key), np.asarray(variable.values), **more)
    storage.finish_group(group)
