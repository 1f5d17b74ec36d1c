"""Vectors opened for any number of questions: what sessions of all kinds begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cagdask.compute.runner import Runner
from cagdask.vectors.names import Names
from cagdask.vectors.sources import Vectors, opened, prepared

if TYPE_CHECKING:
    import xarray as xr


@dataclass
class OpenVectors:
    """Vectors, their names, and where to compute.

    Attributes
    ----------
    vectors, names, runner
        What is searched, and where. Abundances as ingested are made ready to be read by the first question.
    """

    vectors: Vectors
    names: Names
    runner: Runner

    def make_ready(self) -> Vectors:
        """The vectors, ready to be read."""
        self.vectors = prepared(self.vectors, self.runner)
        return self.vectors


@contextmanager
def open_vectors(
    source: str | xr.Dataset,
    *,
    descriptions: dict[str, tuple[str, str]] | None = None,
    normalization: str | None = None,
    **where: Any,
) -> Iterator[OpenVectors]:
    """Open the vectors of a store; see :func:`cagdask.vectors.sources.opened` for ``where``.

    ``descriptions`` gives symbol and description by id, in place of the store's own.
    """
    with opened(source, normalize=normalization, **where) as (vectors, runner):
        yield OpenVectors(vectors, Names(vectors, descriptions), runner)
