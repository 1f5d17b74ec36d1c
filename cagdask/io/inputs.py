"""Whatever people have, as the store that an analysis reads.

    URL of a store                                     --> the same
    URL of a run's folder                              --> the store in it, or that the run names
    URL of a sample sheet or table      --ingest-->    a store that is removed at the end
    Dataset, DataArray, DataFrame, AnnData, sparse  -->  a store that is removed at the end

The digest of an input comes from its ids and values alone, so the same data has the same digest whichever way it came.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from cagdask import storage
from cagdask.compute.progress import reporter
from cagdask.errors import CagdaskError
from cagdask.storage.scratch import scratch_folder
from cagdask.stores import abundance_url, is_store

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def as_store(
    source: Any, *, beside: str | None = None, leave: Callable[[str], bool] | None = None, **where: Any
) -> Iterator[str]:
    """The URL of a store that holds an input, for the time of a block.

    Parameters
    ----------
    source
        URL of a store, a run's folder, a sample sheet or a table; or an object that :func:`cagdask.as_dataset` takes.
    beside
        Output of the analysis: a store that is made for it lies there, where workers on other machines reach it; None
        puts it into a temporary folder.
    leave
        Says of a URL that is no store whether the analysis reads it itself.
    **where
        ``client``, ``n_workers``, ``memory_limit`` for an ingest.

    Raises
    ------
    TypeError
        The source is of a type that holds no table.
    InputError, StoreError
        It can not be used.
    """
    if isinstance(source, str | os.PathLike):
        url = os.fspath(source)
        if leave is not None and leave(url):
            yield url
            return
        url = abundance_url(url)
        if is_store(url) or not storage.exists(url):  # whoever opens it says that it is missing
            yield url
            return
        said, name = url, storage.name_of(url)
    else:
        from cagdask.storage.objects import kind_of

        said, name = f"the {type(source).__name__} given", kind_of(source)
    with scratch_folder() as scratch:
        made = f"{storage.absolute(beside)}.input.zarr" if beside else storage.join(scratch, f"{name}.zarr")
        try:
            with named_as_given(made, said):
                if isinstance(source, str | os.PathLike):
                    from cagdask.io.ingest import ingest

                    reporter().message(
                        f"{said}: ingested first, with default options; cagdask ingest has more of them."
                    )
                    ingest(said, store=made, overwrite=True, **where)
                else:
                    from cagdask.storage.objects import as_dataset, write_dataset

                    write_dataset(as_dataset(source), made)
                yield made
        finally:
            storage.remove(made)


_GIVEN: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("given", default=())
"""Stores that were made of inputs, and what messages call the inputs."""


@contextmanager
def named_as_given(made: str, said: str) -> Iterator[None]:
    """Let errors of a block, and :func:`given_name` in it, name what was given, not the store that was made of it.

    Parameters
    ----------
    made, said
        URL of the store, and what people call it.
    """
    token = _GIVEN.set((*_GIVEN.get(), (made, said)))
    try:
        yield
    except (CagdaskError, ValueError) as err:
        if made in str(err):
            raise type(err)(str(err).replace(made, said)) from err
        raise
    finally:
        _GIVEN.reset(token)


def given_name(url: str) -> str:
    """What was given in place of a store: itself, or what it was made of."""
    return next((said for made, said in _GIVEN.get() if storage.absolute(url) == storage.absolute(made)), url)


def takes_any_input(leave: Callable[[str], bool] | None = None) -> Callable[[F], F]:
    """Let a function of a store's URL, its first parameter, take any input in its place: see :func:`as_store`.

    Parameters
    ----------
    leave
        Says of a URL that is no store whether the function reads it itself.
    """

    def decorate(function: F) -> F:
        first = next(iter(inspect.signature(function).parameters))

        @functools.wraps(function)
        def taking(*arguments: Any, **options: Any) -> Any:
            if arguments:
                options[first] = arguments[0]
            source = options.get(first)
            if source is None or isinstance(source, list | tuple):  # none, or several files, which the function knows
                return function(*arguments[1:], **options)
            where = {name: options[name] for name in ("client", "n_workers", "memory_limit") if name in options}
            with as_store(source, beside=options.get("output"), leave=leave, **where) as url:
                return function(url, *arguments[1:], **{name: v for name, v in options.items() if name != first})

        return cast(F, taking)

    return decorate
