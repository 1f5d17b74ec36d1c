"""Normalization of expression: length, then depth, then log, then quantiles, from a store to a new one.

What is asked for is checked in :mod:`cagdask.expression.request`; the stages are those of
:mod:`cagdask.expression.stages`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cagdask import provenance, storage
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.errors import SchemaError
from cagdask.expression.request import (
    BY_LENGTH,
    checked_steps,
    lengths_of_genes,
    open_source,
    read_target,
    request_of,
)
from cagdask.expression.stages import Normalization

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client


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
        Steps joined by ``+``, see the table of :mod:`cagdask.expression.request`.
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
    steps = checked_steps(method, lengths, without_length, target, compat)
    ds = open_source(source)
    known = None
    if compat or set(steps) & set(BY_LENGTH):
        known = lengths_of_genes(ds, source, lengths, length_rule, length_column)
    request = request_of(ds, source, steps, compat, known, without_length)
    quantiles = read_target(target, ds, request) if target else None
    output = storage.absolute(output)
    storage.check_target(output, overwrite=overwrite)
    given = {"method": "+".join(steps), "length_rule": length_rule, "without_length": without_length, "compat": compat}
    marks = [
        None if one is None else provenance.digest(one.tobytes()) for one in (request.kept, request.length, quantiles)
    ]
    recipe = {"command": "normalize", "source": request.url, "digest": ds.attrs.get("input_digest"), "marks": marks}
    work_bytes = 4 * ds["abundance"].nbytes
    with as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=work_bytes) as runner:
        job = Normalization.begun(request, output, recipe | given, runner, overwrite=overwrite)
        try:
            job.go(ds, given, quantiles)
        except (ValueError, SchemaError):  # input that is refused: nothing that another try could go on from
            storage.end_work(output)
            raise
        storage.publish(job.staged, output)
        storage.end_work(output)
    return storage.open_dataset(output)
