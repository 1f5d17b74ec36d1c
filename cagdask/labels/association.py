"""Which CAGs, genes or factors differ between groups of samples.

    features in rows --block by block--> test (one task per block) --> p values --false discovery rate--> table, picture

Effects are of the second group against the first: positive where the second has more. A task holds a block of 16 MiB
in float64 a few times.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.factors.matrix import Matrix
from cagdask.io.inputs import takes_any_input
from cagdask.labels import statistics
from cagdask.labels.classification.features import Source, normalization_of, open_source, read_rows, reads_itself
from cagdask.labels.design import DesignFiles, Question, check_options, design_of
from cagdask.labels.judging import Scale, scale_of
from cagdask.labels.reading import read_labels, some_of
from cagdask.storage.arrays import Files, array
from cagdask.storage.frames import write_frame
from cagdask.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

logger = logging.getLogger(__name__)

Float64 = NDArray[np.float64]


class TestedFiles(Files):
    """What a task found of its features."""

    tested: Float64 = array(np.float64, "number, feature", "effect, error, low, high, p_value")
    mean: Float64 = array(np.float64, "2, feature", "mean of the first group and of all others")
    prevalence: Float64 = array(np.float64, "feature", "share of tested samples with a value above 0")
    parts: Float64 = array(np.float64, "part, feature", "of a zero-aware test, else nothing")
    total: Float64 = array(np.float64, "sample", "sum of the values of each tested sample over these features")


@takes_any_input(reads_itself)
def associate(
    source: str,
    *,
    labels: str,
    output: str | None = None,
    label_column: str | None = None,
    test: str = "rank-sum",
    groups: tuple[str, ...] | None = None,
    pairs: str | None = None,
    formula: str | None = None,
    cohort: str | None = None,
    min_size: int = 1,
    min_prevalence: float = 0.0,
    zero_aware: bool = False,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> pd.DataFrame:
    """Test each feature of a store for a difference between labelled groups of samples. Computes at once.

    Parameters
    ----------
    source
        Result store or run folder (its CAGs), a store of abundances or expression (its genes), or the folder of a
        factorization (its factors).
    labels, label_column
        As for :func:`cagdask.labels.reading.read_labels`.
    output
        Table to write, ``.tsv`` or ``.parquet``, with a volcano plot beside it (``NAME.volcano.png``).
    test
        ``rank-sum`` or ``paired`` (two groups), ``kruskal`` (two or more), ``linear`` or ``logistic`` (two).
    groups
        Labels to compare, the first is the reference; by default all that occur, sorted.
    pairs
        Column that names the pair of a sample, with ``paired``.
    formula
        Covariates for ``linear`` and ``logistic`` as in R: ``age + C(center)``.
    cohort
        Column of cohorts: each is tested by itself, and effects are combined as random effects. For ``rank-sum``,
        ``linear`` and ``logistic``.
    min_size
        Genes of a CAG at least.
    min_prevalence
        Share of the tested samples in which a feature must be above 0. For CAGs of a ``clr`` result, whose values are
        log-ratios, it is the share of all samples that have the CAG (``cag_prevalence``), in the table too.
    zero_aware
        Test presence, and the amount where present, apart, and combine both p values; for ``rank-sum``. The table then
        has ``presence_effect``, ``presence_p``, ``abundance_effect`` and ``abundance_p``, too.
    overwrite
        Replace ``output``.
    client, n_workers, memory_limit
        As for :func:`cagdask.find_cags`.

    Returns
    -------
    DataFrame
        One row per tested feature, by rising p value: ``cag``, ``gene`` or ``factor``, ``effect``, ``ci_low``,
        ``ci_high``, ``p_value``, ``q_value`` (Benjamini and Hochberg), ``mean_first``, ``mean_other``, ``prevalence``.
        Features that could not be tested (constant, or separating the groups in ``logistic``) have no p and come last.

    Raises
    ------
    ValueError
        A choice is not known, or options do not go together.
    InputError
        A group has fewer than three samples, labels are constant or confounded with covariates, or a column is missing.
    """
    check_options(test, pairs, formula, cohort, min_prevalence, zero_aware)
    if output is not None:
        if not output.endswith((".tsv", ".parquet")):
            raise ValueError(f"`output={output!r}` must end in .tsv or .parquet.")
        storage.check_target(storage.absolute(output), overwrite=overwrite)
    held = open_source(source, None)
    matrix = held.matrix
    _check_source(held, zero_aware, min_size)
    table = read_labels(labels, matrix.url, matrix.sample_names(), label_column)
    question, design = design_of(table, test, groups, pairs, formula, cohort)
    question = replace(question, zero_aware=zero_aware)
    work_bytes = 12 * matrix.n_genes * matrix.n_samples
    with (
        scratch_folder() as scratch,
        as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=work_bytes) as runner,
    ):
        folder = storage.join(scratch, "work") if output is None else storage.work_folder(storage.absolute(output))
        storage.remove(folder)
        try:
            found, total = _run(matrix, question, design, runner, folder)
        finally:
            storage.remove(folder)
    if matrix.name == "abundance":
        warn_of_scale(matrix, scale_of(total, [str(name) for name in table.index[np.asarray(design.column)]]))
    frame = _frame(held, found, min_size, min_prevalence)
    if output is not None:
        _write(frame, output)
    return frame


def _check_source(held: Source, zero_aware: bool, min_size: int) -> None:
    if zero_aware and (held.kind == "factors" or (held.kind == "cags" and normalization_of(held.matrix.url) == "clr")):
        raise ValueError(
            "`zero_aware` needs values of which 0 means absent; log-ratios and factors have no such value."
        )
    if min_size > 1 and held.kind != "cags":
        raise ValueError(f"`min_size` is for CAGs, and these are {held.kind}. Leave it out.")


def warn_of_scale(matrix: Matrix, found: Scale | None = None) -> None:
    """Warn of abundances as ingested: they differ by the depth of their samples, unless ``found`` says otherwise."""
    attrs = storage.open_group(matrix.url).attrs
    as_ingested = attrs.get("kind", "abundance") == "abundance" and attrs.get("normalization", "none") == "none"
    if found is not None and found.whole is not None:
        if found.others:
            logger.warning(
                "%s: most samples add up to %g, but %d of %d do not: %s. Genes may be missing there: check the table, "
                "or make samples comparable with cagdask normalize.",
                matrix.said or matrix.url, found.whole, len(found.others), found.n, some_of(found.others),
            )  # fmt: skip
    elif as_ingested:
        logger.warning(
            "%s: values are as ingested, so samples of other depth differ in all genes. Make them comparable with "
            "cagdask normalize first.",
            matrix.url,
        )


# -- doing it --------------------------------------------------------------------------------------------------------


def _run(
    matrix: Matrix, question: Question, design: DesignFiles, runner: Runner, folder: str
) -> tuple[list[TestedFiles], Float64]:
    """What was found of the features, by block; and the sum of the values of each tested sample."""
    design.write(storage.join(folder, "design"))
    rows = [matrix.rows(*blocks) for blocks in ((i, i + 1) for i in range(matrix.n_blocks))]
    items = [
        (
            matrix.to_json(),
            question.__dict__,
            begin,
            end,
            storage.join(folder, "design"),
            storage.join(folder, str(begin)),
        )
        for begin, end in rows
    ]
    runner.map("test", associate_task, items, unit="features", weights=[end - begin for begin, end in rows])
    found, total = [], np.zeros(len(design.column))
    for item in items:
        part = TestedFiles.open(item[-1])
        total += part.total
        found.append(
            TestedFiles(
                tested=part.tested.copy(),
                mean=part.mean.copy(),
                prevalence=part.prevalence.copy(),
                parts=part.parts.copy(),
                total=part.total[:0],
            )
        )
    return found, total


def associate_task(
    source: dict[str, Any], asked: dict[str, Any], begin: int, end: int, design: str, folder: str
) -> int:
    """Test features ``begin`` to ``end``."""
    given, question = DesignFiles.open(design), Question(**asked)
    values = read_rows(source, begin, end)[:, given.column].astype(np.float64)
    first = given.group == 0
    parts = np.empty((0, end - begin))
    if question.zero_aware:
        found, both = statistics.two_part(values, ~first)
        parts = np.stack(both)
    else:
        found = _tested(values, question, given)
    mean = np.stack([values[:, first].mean(axis=1), values[:, ~first].mean(axis=1)])
    prevalence = np.asarray((values > 0).mean(axis=1))
    TestedFiles(tested=np.stack(found), mean=mean, prevalence=prevalence, parts=parts, total=values.sum(axis=0)).write(
        folder
    )
    return end - begin


def _tested(values: Float64, question: Question, given: DesignFiles) -> statistics.Tested:
    cohorts = np.unique(given.cohort)
    if len(cohorts) < 2:
        return _one(values, question, given.group, given.design)
    parts = []
    for code in cohorts:
        own = given.cohort == code
        parts.append(_one(values[:, own], question, given.group[own], given.design[own]))
    return statistics.random_effects(np.stack([p.effect for p in parts]), np.stack([p.error for p in parts]))


def _one(values: Float64, question: Question, group: NDArray[np.int64], design: Float64) -> statistics.Tested:
    if question.test == "rank-sum":
        return statistics.rank_sum(values, group == 1)
    if question.test == "paired":
        return statistics.paired(values[:, group == 0], values[:, group == 1])
    if question.test == "kruskal":
        return statistics.kruskal(values, group)
    if question.test == "linear":
        return statistics.linear(values, design, question.column)
    return statistics.logistic(values, group == 1, design)


# -- what comes out --------------------------------------------------------------------------------------------------


def _frame(held: Source, parts: list[TestedFiles], min_size: int, min_prevalence: float) -> pd.DataFrame:
    import pandas as pd
    from scipy.stats import false_discovery_control

    tested = np.concatenate([part.tested for part in parts], axis=1)
    mean = np.concatenate([part.mean for part in parts], axis=-1)
    prevalence = np.concatenate([part.prevalence for part in parts], axis=-1)
    matrix, is_cag = held.matrix, held.kind == "cags"
    if is_cag and normalization_of(matrix.url) == "clr":
        prevalence = np.asarray(storage.open_array(matrix.url, "cag_prevalence")[:], np.float64)
    kept = prevalence >= min_prevalence
    if min_size > 1:
        kept &= np.asarray(storage.open_array(matrix.url, "cag_size")[:]) >= min_size
    rows = np.flatnonzero(kept)
    effect, _, low, high, p_value = tested[:, rows]
    q_value = np.full(len(rows), np.nan)
    known = np.isfinite(p_value)
    if known.any():
        q_value[known] = false_discovery_control(p_value[known])
    names: Any = rows if is_cag else held.names_of(rows.astype(np.int64))
    frame = pd.DataFrame(
        {
            {"cags": "cag", "factors": "factor"}.get(held.kind, "gene"): names,
            "effect": effect,
            "p_value": p_value,
            "q_value": q_value,
            "ci_low": low,
            "ci_high": high,
            "mean_first": mean[0, rows],
            "mean_other": mean[1, rows],
            "prevalence": prevalence[rows],
        }
    )
    of_parts = np.concatenate([part.parts for part in parts], axis=1)[:, rows]
    for name, values in zip(statistics.Parts._fields, of_parts, strict=False):
        frame[name] = values
    return frame.sort_values("p_value", kind="stable", na_position="last", ignore_index=True)


def _write(frame: pd.DataFrame, output: str) -> None:
    from cagdask.plot.association import volcano
    from cagdask.plot.style import save as save_picture

    write_frame(frame, output)
    save_picture(volcano(frame), f"{os.path.splitext(output)[0]}.volcano.png")
