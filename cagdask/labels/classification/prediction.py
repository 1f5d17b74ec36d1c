"""The library call ``predict``: labels of new samples from a stored model.

features of the model --by name--> rows of the new store --read by tasks--> values --> labels, probabilities
CAGs of the model --by their genes--> rows of the new store --summed by tasks--> means --> the same
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import storage, stores
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, SchemaError
from cagdask.io.inputs import as_store
from cagdask.labels.classification import aggregation, answers, features, results
from cagdask.labels.reading import some_of
from cagdask.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

logger = logging.getLogger(__name__)

MISSING = ("error", "zero")


def predict(
    model: str,
    source: str,
    *,
    output: str,
    missing: str = "error",
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> pd.DataFrame:
    """Give labels to new samples. Computes at once.

    Parameters
    ----------
    model
        Folder that :func:`cagdask.classify` made.
    source
        New samples, with the same kind of features, made comparable in the same way: a store, or what
        :func:`cagdask.ingest` makes one of. For a model of CAGs it may hold genes: they are normalized as the model's
        were, and the CAGs are means over them, found by gene id.
    output
        Table to write, ``.tsv``.
    missing
        What to do if features of the model are not there: ``error``, or take them as ``zero`` (absent). Of a CAG some
        of whose genes are there, ``error`` takes the mean over these, ``zero`` the others as absent.
    overwrite
        Replace ``output``.
    client, n_workers, memory_limit
        As for :func:`cagdask.find_cags`.

    Returns
    -------
    DataFrame
        One row per sample: ``sample``, ``predicted``, ``probability``, ``unknown``, ``call``, ``most_similar`` (names
        of labelled samples, nearest first), ``their_labels``, ``distance``, and ``p(LABEL)`` of each label. Where CAGs
        were made of genes, ``attrs`` has ``n_genes_of_model``, ``n_genes_found`` and ``n_cags_without_genes``.

    Raises
    ------
    InputError
        Features are missing, or were made in another way.
    SchemaError
        The folder holds no model.
    """
    if missing not in MISSING:
        raise ValueError(f"`missing` is {missing!r}; choose one of {', '.join(MISSING)}.")
    if not output.endswith(".tsv"):
        raise ValueError(f"`output={output!r}` must end in .tsv.")
    storage.check_target(storage.absolute(output), overwrite=overwrite)
    card = read_card(model)
    where: dict[str, Any] = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
    with as_store(source, beside=output, leave=features.reads_itself, **where) as url:
        held = _same_features(url, source, model, card) or _genes_of(url, source, model, card)
        with (
            scratch_folder() as scratch,
            as_runner(**where, work_bytes=12 * held.n * held.n_samples) as runner,
        ):
            folder = (
                storage.join(scratch, "work") if runner.in_process else storage.work_folder(storage.absolute(output))
            )
            storage.remove(folder)
            try:
                table = _predicted(model, card, held, missing, runner, folder)
            finally:
                storage.remove(folder)
    results.write_table(table, storage.absolute(output))
    return table


def _same_features(url: str, source: str, model: str, card: dict[str, Any]) -> features.Source | None:
    """Features of the model in the new source; None if CAGs have to be made of its genes.

    Raises
    ------
    InputError
        They were made in another way, and there are no genes to make them of.
    """
    kind = card["features"]["kind"]
    if kind == "cags" and not _holds_cags(url):
        return None
    held = features.open_source(url, kind)
    identity = features.identity_of(held)
    if identity == card["features"]["identity"]:
        return held
    if kind == "cags" and _store_of_genes(url) is not None:
        return None
    raise InputError(
        f"{source}: its features are of {identity}, those of {model} of {card['features']['identity']}. "
        + _advice(kind, card)
    )


def _advice(kind: str, card: dict[str, Any]) -> str:
    if kind == "cags":
        return "Name the store of genes of the new samples: the model's CAGs are made of them."
    if kind == "factors":
        return "Project the new samples onto the model's factors with cagdask nmf project."
    method = str(card["features"]["identity"]).removeprefix("normalization ")
    return f"Make the new samples comparable in the same way: cagdask normalize with method {method}."


def _holds_cags(url: str) -> bool:
    """Whether there is a result: a cags.zarr, or the folder of a run with one."""
    return stores.kind_of(stores.result_url(url)) == "result"


def _store_of_genes(url: str) -> str | None:
    """The store of genes that a source means, if there is one."""
    if stores.kind_of(url) == "result":
        return None
    try:
        return stores.abundance_url(url)
    except InputError:  # a folder with CAGs alone
        return None


def _genes_of(url: str, source: str, model: str, card: dict[str, Any]) -> features.Source:
    held = features.open_source(_store_of_genes(url) or url, "genes")
    aggregation.check_normalization(held.matrix.url, card, model)  # said before anything is computed
    return held


def read_card(model: str) -> dict[str, Any]:
    """The card of a model.

    Raises
    ------
    SchemaError
        The folder holds none, or one of another version.
    """
    card = storage.read_json(storage.join(model, results.CARD))
    if not isinstance(card, dict) or card.get("kind") != "classifier":
        raise SchemaError(f"{model}: holds no model. Name the output of cagdask classify.")
    if card.get("format") != results.FORMAT:
        raise SchemaError(
            f"{model}: is of format {card.get('format')}, this version reads {results.FORMAT}. Train it again."
        )
    return card


def _predicted(
    model: str, card: dict[str, Any], held: features.Source, missing: str, runner: Runner, folder: str
) -> pd.DataFrame:
    wanted = card["features"]["names"]
    if card["features"]["kind"] == "cags" and held.kind == "genes":
        runner.check_fits("predict", 24 * len(wanted) * min(answers.STEP, held.n_samples), f"{len(wanted):,} CAGs")
        means, counts = aggregation.cag_means(model, card, held.matrix, missing, runner, folder)
        table = answers.predicted(model, card, held.matrix.sample_names(), means.read)
        table.attrs.update(counts)
        return table
    place = _places(held, set(wanted))
    lacking = [name for name in wanted if name not in place]
    if lacking and (missing == "error" or len(lacking) == len(wanted)):
        raise InputError(
            f"{held.matrix.said or held.matrix.url}: {len(lacking):,} of the {len(wanted):,} features of {model} are "
            f"not there: {some_of(lacking)}. Check names, or take them as absent with missing zero."
        )
    if lacking:
        logger.warning("%d of %d features of the model are taken as 0: %s", len(lacking), len(wanted), some_of(lacking))
    there = np.array([i for i, name in enumerate(wanted) if name in place], np.int64)
    row = np.array([place[wanted[i]] for i in there.tolist()], np.int64)
    rising = np.argsort(row)
    runner.check_fits("predict", 12 * len(wanted) * min(answers.STEP, held.n_samples), f"{len(wanted):,} features")
    parts = features.gather(held, row[rising], runner, folder)

    def read(begin: int, end: int) -> Any:
        values = np.zeros((end - begin, len(wanted)), np.float32)
        values[:, there[rising]] = features.read_values(parts, row[rising], np.arange(begin, end, dtype=np.int64))
        return values

    return answers.predicted(model, card, held.matrix.sample_names(), read)


def _places(held: features.Source, wanted: set[str]) -> dict[str, int]:
    """Rows of the features that are wanted, by name; names are read a chunk at a time."""
    found: dict[str, int] = {}
    twice: Counter[str] = Counter()
    for begin in range(0, held.n, storage.ID_CHUNK):
        end = min(begin + storage.ID_CHUNK, held.n)
        for row, name in enumerate(held.names_of(np.arange(begin, end, dtype=np.int64)), start=begin):
            if name in wanted:
                found[name] = row
                twice[name] += 1
    if twice and twice.most_common(1)[0][1] > 1:
        raise InputError(f"feature {twice.most_common(1)[0][0]!r} occurs more than once in {held.matrix.url}.")
    return found
