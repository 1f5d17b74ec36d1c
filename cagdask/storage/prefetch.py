"""Loading what comes next while what is here is in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def ahead(load: Callable[[Item], Loaded], items: Sequence[Item], n: int = 1) -> Iterator[Loaded]:
    """Results of ``load`` for each item. The next ``n`` are loaded while one is in use, so n + 1 are in memory."""
    if not n:
        yield from map(load, items)
        return
    with ThreadPoolExecutor(n) as readers:
        coming = deque(readers.submit(load, item) for item in items[:n])
        for i in range(len(items)):
            found = coming.popleft().result()
            coming.extend(readers.submit(load, item) for item in items[i + n : i + n + 1])
            yield found
            del found
