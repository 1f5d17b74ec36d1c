"""What the functions of this package are asked: parameters as plain Python values, refused before anything is read."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cagdask import storage
from cagdask.arguments import Options
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.factors.matrix import Matrix, check_table, open_matrix
from cagdask.factors.options import CONSENSUS, NMF
from cagdask.io.inputs import given_name
from cagdask.io.tables.parquet import is_table
from cagdask.io.work_size import table_work_bytes

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Request:
    """What a command of this package is asked, apart from where to compute.

    Attributes
    ----------
    command, source, output
        Name of the function, what it reads, and where its files go (None: nowhere).
    parameters
        As given; whatever the result depends on.
    k
        Largest number of components.
    overwrite
        Replace ``output``.
    """

    command: str
    source: str
    output: str | None
    parameters: dict[str, Any]
    k: int
    overwrite: bool

    @property
    def said(self) -> str:
        """The source, as it was given."""
        return given_name(self.source)

    def runner(
        self, client: Runner | Client | str | None, n_workers: int | None, memory_limit: str | int
    ) -> AbstractContextManager[Runner]:
        """Where to compute: passes hold the matrix once, in blocks, and what they make of it."""
        if is_table(self.source):
            work_bytes = table_work_bytes(storage.absolute(self.source))
        else:
            matrix = open_matrix(self.source)
            work_bytes = 2 * 4 * matrix.n_genes * matrix.n_samples
        return as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=work_bytes)

    def check(self) -> None:
        """Refuse what can be refused without reading values.

        Raises
        ------
        ValueError, InputError, StoreError, SchemaError
            A parameter is out of range, the source can not be read, or the output not written.
        """
        given = self.parameters
        if self.output is not None:
            storage.check_target(storage.absolute(self.output), overwrite=self.overwrite)
        if is_table(self.source):
            check_table(self.source, given["id_column"], given["orient"])
        else:
            if given["orient"] != OPTIONS["orient"].default or given["id_column"] is not None:
                raise ValueError(f"{self.source}: `orient` and `id_column` are for Parquet tables. Leave them out.")
            check_k(self.k, open_matrix(self.source), self.source)


OPTIONS = Options(*CONSENSUS.values(), *NMF.values())
"""What factorizations take, as far as one value is concerned."""


def taken(given: dict[str, Any]) -> dict[str, Any]:
    """Parameters as plain Python values.

    Raises
    ------
    ValueError
        One is no number, no word, or out of range.
    """
    return {name: OPTIONS[name].check(value) if name in OPTIONS else value for name, value in given.items()}


def check_k(k: int, matrix: Matrix, source: str) -> None:
    """Refuse more components than the matrix has rows or columns."""
    most = min(matrix.n_genes, matrix.n_samples)
    if k > most:
        raise ValueError(
            f"`k` is {k}, but {source} is {matrix.n_genes:,} x {matrix.n_samples:,}: use at most {most} components."
        )
