"""The stages of a normalization, in a work folder that becomes the store.

    sums --> turn --> quartiles, factors --> add sorted --> rank --> write
             only with tmm, median-of-ratios and quantile

What needs whole samples reads *tiles*: the table is turned once, from rows of genes to groups of samples, so that
neither a row nor a sample is read twice and no task holds more than its share. A run that was interrupted goes on with
the first task whose result is not kept; it keeps the blocks of the first try, whose files it reads.
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
from cagdask.compute.runner import Runner
from cagdask.compute.work import Work
from cagdask.errors import InputError
from cagdask.expression import tasks
from cagdask.expression.request import Request
from cagdask.io.layout import ChunkPlan, plan_chunks
from cagdask.labels.reading import some_of

if TYPE_CHECKING:
    import xarray as xr

logger = logging.getLogger(__name__)

_TARGET = {"long_name": "Mean of the sorted samples: what the ranks of a sample become"}
_SCALE = {"long_name": "Factor of a sample"}


@dataclass
class Normalization(Work):
    """One normalized store in the making.

    Attributes
    ----------
    request
        What is done.
    out
        Cut of the output, whose blocks are also those of the tiles.
    tile_samples
        Samples of a tile.
    source
        What tasks read, as far as it is known by now.
    """

    request: Request
    out: ChunkPlan
    tile_samples: int
    source: tasks.Source

    @classmethod
    def begun(
        cls, request: Request, target: str, recipe: dict[str, Any], runner: Runner, *, overwrite: bool
    ) -> Normalization:
        """Start or resume the work folder of a target.

        Raises
        ------
        MemoryLimitError
            A gene or a whole sample does not fit a worker.
        ResumeError, StoreError
            As :func:`cagdask.storage.begin_work` says.
        """
        n_genes, n_samples = len(request.kept), request.n_samples
        cut = plan_chunks(n_genes, n_samples, runner.task_budget)
        wanted = {"chunk_rows": cut.chunk_rows, "block_rows": cut.block_rows}
        wanted["tile_samples"] = request.tile_samples(runner.task_budget)
        _check_memory(request, wanted["tile_samples"], runner)
        folder, plan = storage.begin_work(target, recipe | {"plan": wanted}, overwrite=overwrite, is_store=True)
        out = ChunkPlan(n_genes, n_samples, plan["chunk_rows"], plan["block_rows"], cut.sharded)
        source = tasks.Source(
            url=request.url, folder=storage.join(folder, "plan"),
            tiles=storage.join(folder, "tiles.zarr") if request.needs_tiles else None,
            has=[], log="log" in request.steps, counts=request.depth in ("tmm", "median-of-ratios"),
        )  # fmt: skip
        job = cls(folder, runner, request, out, plan["tile_samples"], source)
        tasks.RowFiles(kept=request.kept).write(job.path("plan", "kept"))
        if request.length is not None:
            job._give("after" if request.compat else "length", request.length)
        return job

    def sample_groups(self) -> list[tuple[int, int]]:
        """First sample and end of each tile."""
        step = self.tile_samples
        return [(low, min(low + step, self.request.n_samples)) for low in range(0, self.request.n_samples, step)]

    def _save(self, name: str, values: NDArray[Any]) -> None:
        tasks.VectorFiles(values=values).write(self.path("plan", name))

    def _give(self, name: str, values: NDArray[Any]) -> None:
        """Save numbers of genes or samples that tasks use from now on."""
        self._save(name, values)
        self.source = replace(self.source, has=[*self.source.has, name])

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
        """Run all stages; the store is then complete in the work folder.

        Parameters
        ----------
        ds, given
            The source, and what was asked for, for the history of the output.
        quantiles
            Target that was given, float64, one value a rank; None takes the mean of the sorted samples.

        Raises
        ------
        InputError
            Values are negative, or no counts where counts are needed; or no factor can be computed from them.
        """
        request = self.request
        total, per_length = self._sums(ds)
        if request.needs_tiles:
            self._make_tiles()
        scale = self._scale(total, per_length)
        if scale is not None:
            self._give("scale", scale)
        ranked = None
        if "quantile" in request.steps:
            quantiles = self._quantiles() if quantiles is None else quantiles
            self._save("target", quantiles)
            ranked = self.path("ranked.zarr")
            self._tiles_at(ranked)
            groups = self.sample_groups()
            self.over("rank", tasks.rank_task, groups, ranked, unit="samples", own_folder=False)
        self._write(ds, given, ranked, scale, quantiles)

    def _sums(self, ds: xr.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n_genes = len(self.request.kept)
        n_parts = min(tasks.N_SUMS, n_genes)
        edges = [n_genes * i // n_parts for i in range(n_parts + 1)]
        places = self.over("sums", tasks.sums_task, list(pairwise(edges)))
        shape = self.request.n_samples
        total, per_length, root = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        least, most = np.full(shape, np.inf), np.full(shape, -np.inf)
        for part in tasks.SumFiles.open_all(places):  # one at a time: each has the size of the samples
            total += part.total
            per_length += part.per_length
            root += part.root
            np.minimum(least, part.least, out=least)
            np.maximum(most, part.most, out=most)
        self._save("root", root)
        samples = ds["sample_id"].values
        for wrong, said in ((most <= 0, "hold nothing"), ((least == most) & (most > 0), "have one value in all genes")):
            if wrong.any():
                logger.warning(
                    "%d of %d samples %s: %s", wrong.sum(), len(samples), said, some_of(list(samples[wrong]))
                )
        self._save("total", total)
        return total, per_length

    def _make_once(self, url: str, make: Callable[[], None]) -> None:
        """Make a store that tasks fill, unless an earlier try had made it whole."""
        made = self.path("made", f"{storage.name_of(url)}.json")
        if storage.read_json(made) is None:
            storage.remove(url)
            make()
            storage.write_json(made, True)

    def _tiles_at(self, url: str) -> None:
        self._make_once(url, lambda: self._create_tiles(url))

    def _create_tiles(self, url: str) -> None:
        shape = (len(self.request.kept), self.request.n_samples)
        chunks = (self.out.block_rows, self.tile_samples)
        storage.create_array(storage.create_group(url, {}), "tiles", shape, chunks=chunks, dims=("gene", "sample"))

    def _make_tiles(self) -> None:
        assert self.source.tiles is not None
        self._tiles_at(self.source.tiles)
        places = self.over("turn", tasks.turn_task, self.out.blocks())
        if not self.source.counts:
            return
        parts = [tasks.GeneFiles.open(place) for place in places]
        log_mean = np.concatenate([part.log_mean for part in parts])
        present = np.concatenate([part.present for part in parts])
        tasks.GeneFiles(log_mean=log_mean, present=present).write(self.path("plan", "genes"))

    def _scale(self, total: NDArray[np.float64], per_length: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """What each sample is multiplied with; 0 for one that holds nothing."""
        depth = self.request.depth
        if depth is None:
            return None
        if depth == "median-of-ratios":
            return 1 / self._ratio_factors()
        sums = per_length if depth == "tpm" else total
        per_million = np.divide(1e9 if depth == "rpkm" else 1e6, sums, out=np.zeros_like(sums), where=sums > 0)
        return per_million / self._tmm_factors(total) if depth == "tmm" else per_million

    def _tmm_factors(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        if (total <= 0).any():
            raise InputError(
                f"{self.request.url}: {(total <= 0).sum()} of {len(total):,} samples hold nothing, which tmm can not "
                "scale. Ingest the others alone (cagdask ingest --samples FILE), or use `method='cpm'`."
            )
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
            raise InputError(f"{self.request.url}: no gene is in all samples, which median-of-ratios needs. Use tmm.")
        groups = self.sample_groups()
        return _joined(self.over("factors", tasks.ratio_task, groups, unit="samples"))

    def _quantiles(self) -> NDArray[np.float64]:
        places = self.over("add sorted", tasks.sorted_task, self.sample_groups(), unit="samples")
        total = np.zeros(len(self.request.kept))
        for place in places:
            for part in tasks.SortedFiles.open(place).sums:
                total += part
        return total / self.request.n_samples

    def _write(
        self,
        ds: xr.Dataset,
        given: dict[str, Any],
        ranked: str | None,
        scale: NDArray[np.float64] | None,
        quantiles: NDArray[np.float64] | None,
    ) -> None:
        staged = self.staged
        self._make_once(staged, lambda: _create_output(staged, ds, self.out, self.request, given))
        self.over("write", tasks.write_task, self.out.blocks(), ranked, staged, own_folder=False)
        group = storage.open_group(staged, writable=True)
        if scale is not None:
            storage.write_array(group, "sample_scale", scale, dims=("sample",), attrs=_SCALE)
        if quantiles is not None:
            storage.write_array(group, "quantile_target", quantiles, dims=("rank",), attrs=_TARGET)
        storage.finish_group(group)


def _check_memory(request: Request, tile_samples: int, runner: Runner) -> None:
    if request.needs_tiles:
        n_genes = len(request.kept)
        need = 8 * n_genes * tile_samples + 4 * max(tasks.SORTED_BYTES, 8 * n_genes)
        runner.check_fits("rank", need, f"{tile_samples:,} whole samples")


def _joined(places: list[str]) -> NDArray[np.float64]:
    return np.concatenate([tasks.VectorFiles.open(place).values for place in places])


def _create_output(staged: str, ds: xr.Dataset, out: ChunkPlan, request: Request, given: dict[str, Any]) -> None:
    """The output store with its arrays, the genes' still empty; what is known of the samples is copied."""
    line = "normalize " + ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)
    attrs = {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": "expression",
        "source": provenance.source(),
        "normalization": request.method,
        "history": provenance.add_history(str(ds.attrs.get("history", "")), line),
        "input_digest": provenance.digest(
            [ds.attrs.get("input_digest"), given, provenance.digest(request.kept.tobytes())]
        ),
    }
    group = storage.create_group(staged, attrs)
    n, rows = len(request.kept), out.block_rows
    storage.create_array(
        group,
        "abundance",
        (n, request.n_samples),
        chunks=(out.chunk_rows, request.n_samples),
        shards=(rows, request.n_samples),
    )
    names = {str(name) for name, variable in ds.variables.items() if variable.dims == ("gene",)}
    if request.length is not None:
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
