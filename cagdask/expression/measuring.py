"""Measures of every gene of a store: how strong, how common, how specific, and how alike its strongest samples are.

===============  ==================================================================================================
column           what it is
===============  ==================================================================================================
``mean``         over samples
``percentile``   95th (or another) over samples, linear between ranks
``signal``       (1 + percentile) / (1 + mean): how far the strongest samples stand out
``prevalence``   share of samples above 0
``entropy``      of the distribution over samples, nat; log(n_samples) is even
``tau``          specificity over samples: 0 the same everywhere, 1 in one sample only
``mean_cosine``  mean cosine similarity, over all genes, among the samples around the percentile
``n_around``     how many of these hold anything
===============  ==================================================================================================

With groups of samples also ``tau_COLUMN`` over the means of the groups, and ``top_COLUMN``, the group of the largest.

The mean cosine needs no matrix of pairs: unit vectors u of n samples have (|Σu|² − n) / (n (n − 1)).
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.compute.work import Work
from cagdask.errors import InputError, SchemaError
from cagdask.expression import measure_tasks as tasks
from cagdask.expression import measures
from cagdask.expression.kernels import Float64
from cagdask.expression.options import METRICS, MetricsOptions
from cagdask.io.inputs import takes_any_input
from cagdask.labels.reading import some_of
from cagdask.labels.sets import read_label_set
from cagdask.storage.frames import write_frame
from cagdask.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)


@takes_any_input()
def expression_metrics(
    source: str,
    *,
    output: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
    **options: Unpack[MetricsOptions],
) -> pd.DataFrame:
    """Measure every gene of a store over its samples. Computes at once, out of core, in two passes.

    Parameters
    ----------
    source
        Store of values >= 0, best normalized: the output of :func:`cagdask.normalize_expression`.
    output
        Table to write, ``.tsv`` or ``.parquet``, with a picture beside it (``NAME.signal.png``).
    overwrite
        Replace ``output``.
    client, n_workers, memory_limit
        As for :func:`cagdask.find_cags`.
    **options
        ``percentile`` (95) of each gene over samples, above 0 and below 100. ``n_around`` (100, at least 2) samples
        around it whose mean cosine similarity is computed; at the upper end, and of fewer samples, there are fewer.
        ``groups``: labels over whose means specificity is computed as well: metadata of samples (``tissue`` for
        ``sample_tissue``), a table with samples in its first column (and ``label_column``), or a folder of lists;
        samples without one are left out there. ``compat="archs4"`` adds the columns of the published scripts:
        ``signal_archs4``, and ``mean_cosine_archs4``, which is 2 · mean + 2 / (n − 1), NaN for a gene without
        and 0 for one with a single sample.

    Returns
    -------
    DataFrame
        One row per gene, in their order: ``gene`` and the columns of this module's table.

    Raises
    ------
    ValueError
        A parameter is out of range.
    InputError, SchemaError, StoreError
        Values are negative, the metadata is not there, or the store can not be used.
    MemoryLimitError
        A gene's samples do not fit a worker.

    Notes
    -----
    Takes n_genes² · n_around multiplications for the cosines, on no more than the table itself: 2 · 10⁴ genes take
    about half a minute of processor time, whatever the samples. Equal values are ordered as the samples are.
    """
    asked = METRICS.check(**METRICS.defaults | dict(options))
    if output is not None:
        if not output.endswith((".tsv", ".parquet")):
            raise ValueError(f"`output={output!r}` must end in .tsv or .parquet.")
        storage.check_target(storage.absolute(output), overwrite=overwrite)
    ds = _open(source)
    if asked["label_column"] and not asked["groups"]:
        raise ValueError("`label_column` is of a table of `groups`. Name that, too.")
    groups = _groups(ds, asked["groups"], asked["label_column"]) if asked["groups"] else None
    with (
        ExitStack() as stack,
        as_runner(
            client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=8 * ds["abundance"].nbytes
        ) as runner,
    ):
        target = storage.absolute(output or os.path.join(stack.enter_context(scratch_folder()), "metrics.tsv"))
        held = None if groups is None else [groups.names, groups.order.tolist(), groups.starts.tolist()]
        asked |= {"groups_digest": provenance.digest(held)}  # a file of labels may change between two tries
        job = Metrics.begun(ds, target, asked, runner, overwrite=overwrite)
        try:
            frame = job.measured(ds, asked["percentile"], asked["n_around"], groups, asked["compat"])
        except InputError:
            storage.end_work(target)
            raise
        if output is not None:
            _write(frame, target)
        storage.end_work(target)
    return frame


def _open(source: str) -> xr.Dataset:
    ds = storage.open_dataset(source)
    if ds.attrs.get("kind") == "embedding":
        raise SchemaError(f"{source}: holds embedding, whose columns are no samples. Name a store of expression.")
    schema.validate(ds, "abundance", "gene_id", "sample_id", where=source)
    if not ds.sizes["gene"] or ds.sizes["sample"] < 2:
        raise InputError(
            f"{source}: has {ds.sizes['gene']:,} genes and {ds.sizes['sample']:,} samples; needs a gene and two "
            "samples."
        )
    return ds


@dataclass(frozen=True)
class _Groups:
    """Groups of samples by their labels: samples by group, and where each group begins among them."""

    column: str
    names: list[str]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]


def _groups(ds: xr.Dataset, groups: str, column: str | None) -> _Groups:
    """Groups of samples from labels of any form; a sample may be in several."""
    url, samples = str(ds.encoding["source"]), [str(name) for name in ds["sample_id"].values.tolist()]
    if column is None and not storage.exists(groups):
        groups = groups.removeprefix("sample_")
    found = read_label_set(groups, url, samples, column=column)
    for message in found.messages():
        logger.warning("%s", message)
    used = [i for i, n in enumerate(found.member.sum(axis=0).tolist()) if n]
    if len(used) < 2:
        raise InputError(f"{groups}: has {len(used)} group of samples; specificity over groups needs two.")
    members = [np.flatnonzero(found.member[:, i]) for i in used]
    starts = np.cumsum([0, *(len(one) for one in members[:-1])])
    names = [found.names[i] for i in used]
    return _Groups(column or _short(groups), names, np.concatenate(members).astype(np.int64), starts.astype(np.int64))


def _short(groups: str) -> str:
    """What columns of the table are called by: the metadata, or the name of a file or folder without its end."""
    return storage.name_of(groups).partition(".")[0] if storage.exists(groups) else groups


@dataclass
class Metrics(Work):
    """One table of measures in the making.

    Attributes
    ----------
    url
        The store.
    shape
        Genes and samples.
    """

    url: str
    shape: tuple[int, int]

    @classmethod
    def begun(cls, ds: xr.Dataset, target: str, asked: dict[str, Any], runner: Runner, *, overwrite: bool) -> Metrics:
        """Check that a row fits a worker, and start or resume the work folder."""
        url, shape = str(ds.encoding["source"]), (ds.sizes["gene"], ds.sizes["sample"])
        n_genes, n_samples = shape
        held = _held(url, shape)
        survey = held + tasks.SURVEY_COPIES * n_samples
        cosines = (
            held + 4 * n_genes * min(asked["n_around"], n_samples) + 4 * n_samples * (tasks.strip_rows(n_samples) + 2)
        )
        runner.check_fits(
            "metrics", max(survey, cosines), f"a gene of {n_samples:,} samples, and {n_genes:,} lists of samples"
        )
        recipe = {"command": "metrics", "source": url, "digest": ds.attrs.get("input_digest")} | asked
        folder, _ = storage.begin_work(target, recipe, overwrite=overwrite)
        return cls(folder, runner, url, shape)

    def _over_genes(self, stage: str, task: Any, *arguments: Any) -> list[str]:
        n_genes, n_samples = self.shape
        n_parts = max(1, min(tasks.N_PARTS, n_genes, 4 * n_genes * n_samples // tasks.PART_BYTES))
        parts = list(pairwise(n_genes * i // n_parts for i in range(n_parts + 1)))
        places = [self.path(stage, str(low)) for low, _ in parts]
        items = [(self.url, *part, *arguments, place) for part, place in zip(parts, places, strict=True)]
        self.runner.map(stage, task, items, done=self.done, unit="genes", weights=[high - low for low, high in parts])
        return places

    def measured(
        self, ds: xr.Dataset, percentile: float, n_around: int, groups: _Groups | None, compat: str | None
    ) -> pd.DataFrame:
        """Both passes, and the table."""
        n_samples = self.shape[1]
        folder = None
        if groups is not None:
            folder = self.path("groups")
            tasks.GroupFiles(order=groups.order, starts=groups.starts).write(folder)
        ranks = measures.window(n_samples, percentile, n_around)
        if ranks[1] - ranks[0] < n_around:
            logger.warning("only %d of %d samples lie around percentile %g", ranks[1] - ranks[0], n_around, percentile)
        room = min(tasks.BLOCK_BYTES, self.runner.task_budget - _held(self.url, self.shape))
        rows = max(1, room // (tasks.SURVEY_COPIES * n_samples))
        places = self._over_genes("survey", tasks.survey_task, rows, percentile, list(ranks), folder)
        length = np.sqrt(_added(storage.join(place, "squares") for place in places))
        inverse = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
        if (length == 0).any():
            names = some_of(list(ds["sample_id"].values[length == 0]))
            logger.warning("%d of %d samples hold nothing: %s", (length == 0).sum(), n_samples, names)
        tasks.LengthFiles(inverse=inverse).write(self.path("lengths"))
        parts = tasks.MemberFiles.open_all([storage.join(place, "members") for place in places])
        sample = np.concatenate([part.sample for part in parts])
        n_held = (inverse[sample] > 0).sum(axis=1)
        tasks.MemberFiles(sample=sample).write(self.path("members"))
        chosen = self.path("members"), self.path("lengths")
        squares = _added(self._over_genes("cosines", tasks.cosine_task, *chosen))
        of_parts = tasks.GeneMeasures.open_all([storage.join(place, "genes") for place in places])
        found = [one.by_name() for one in of_parts]
        columns = {name: np.concatenate([one[name] for one in found]) for name in tasks.GeneMeasures.declared}
        return _table(ds, columns, squares, n_held, groups, ranks[1] - ranks[0] if compat else None)


def _held(url: str, shape: tuple[int, int]) -> int:
    """Bytes of the stored chunks that a task reads at once, decoded and where they go."""
    rows = tasks.piece_rows(storage.open_array(url, "abundance").chunks[0], shape[1])
    return 8 * shape[1] * min(rows, shape[0])


def _added(places: Any) -> Float64:
    """Sum of what tasks wrote, in their order."""
    total: Float64 | None = None
    for part in tasks.SquareFiles.open_all(list(places)):
        total = part.squares.copy() if total is None else total + part.squares
    assert total is not None
    return total


def _table(
    ds: xr.Dataset, found: dict[str, Any], squares: Float64, n_held: NDArray[np.int64], groups: _Groups | None,
    n_compat: int | None,
) -> pd.DataFrame:  # fmt: skip
    import pandas as pd

    signal = (1 + found["percentile"]) / (1 + found["mean"])
    frame = pd.DataFrame(
        {"gene": ds["gene_id"].values.astype(object), "mean": found["mean"], "percentile": found["percentile"],
         "signal": signal, "prevalence": found["prevalence"], "entropy": found["entropy"], "tau": found["tau"]}
    )  # fmt: skip
    if groups is not None:
        frame[f"tau_{groups.column}"] = found["group_tau"]
        names = np.array([*groups.names, ""], object)
        frame[f"top_{groups.column}"] = names[found["top_group"]]
    present = found["n_present"] > 0
    frame["mean_cosine"] = np.where(present, measures.mean_cosine(squares, n_held), np.nan)
    frame["n_around"] = n_held
    if n_compat is not None:
        frame["signal_archs4"] = signal
        whole_sum = squares / max(n_compat * (n_compat - 1) / 2, 1)
        frame["mean_cosine_archs4"] = np.select([~present, found["n_present"] == 1], [np.nan, 0.0], whole_sum)
    return frame


def _write(frame: pd.DataFrame, output: str) -> None:
    from cagdask.plot.expression import signal
    from cagdask.plot.style import save as save_picture

    write_frame(frame, output)
    save_picture(signal(frame), f"{os.path.splitext(output)[0]}.signal.png")
