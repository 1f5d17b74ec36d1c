"""Saved results of the finished tasks of a stage, from which an interrupted stage goes on.

    FOLDER/7.json    {"item": digest of the task's arguments, "result": what it returned, "cpu_seconds": what it took}

On an object store each of them takes a round trip: they are written while other tasks run, several at a time, and a
stage that begins asks once which are there.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from cagdask import provenance, storage

_THREADS = 16


class Answers:
    """Those of one stage; a context that ends once all are written, also where the stage fails.

    Parameters
    ----------
    folder
        Where they are kept; None keeps none.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = folder
        self._writes: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(_THREADS)

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, _: TracebackType | None) -> None:
        self._pool.shutdown(wait=True)
        if err is None:
            for write in self._writes:
                write.result()

    def found(self, items: Sequence[tuple[Any, ...]]) -> dict[int, Any]:
        """Results of the tasks that had ended, by their place; of other arguments than now, they do not count."""
        if self.folder is None or not storage.exists(self.folder):
            return {}
        there = storage.list_files(self.folder)
        places = [i for i in range(len(items)) if f"{i}.json" in there]
        kept = list(self._pool.map(storage.read_json, map(self._url, places)))
        return {
            i: one["result"]
            for i, one in zip(places, kept, strict=True)
            if one is not None and one["item"] == _fingerprint(items[i])
        }

    def keep(self, i: int, item: tuple[Any, ...], result: Any, cpu_seconds: float) -> None:
        """Write one, soon.

        Raises
        ------
        OSError
            An earlier one could not be written.
        """
        if self.folder is None:
            return
        while self._writes and self._writes[0].done():
            self._writes.popleft().result()
        data = json.dumps({"item": _fingerprint(item), "result": result, "cpu_seconds": cpu_seconds}).encode()
        self._writes.append(self._pool.submit(storage.write_bytes, self._url(i), data))

    def _url(self, i: int) -> str:
        return storage.join(self.folder or "", f"{i}.json")


def _fingerprint(item: tuple[Any, ...]) -> str:
    return provenance.digest(list(item))
