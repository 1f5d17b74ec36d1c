"""Lists of the groups that each group may join, all in one array that grows: compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cagdask.compute.kernels import njit


class Links(NamedTuple):
    """Lists in both directions, so that a group finds those that list it too.

    The list of row i is ``pool[start[i] : start[i] + count[i]]``; it may grow to ``room[i]`` where it is. ``end`` (1,)
    is where the pool is free from.
    """

    pool: Any
    end: Any
    start: Any
    count: Any
    room: Any


@njit(cache=True, nogil=True)
def room_for(count: Any) -> Links:
    """Empty lists that have room for ``count`` (n,) int64 entries each."""
    end = count.sum()
    pool = np.empty(end + end // 2 + 1000, np.int32)
    return Links(pool, np.full(1, end, np.int64), np.cumsum(count) - count, np.zeros_like(count), count)


@njit(cache=True, nogil=True)
def add_link(links: Links, a: int, b: int) -> None:
    """Put ``b`` on the list of ``a``, which has room for it."""
    links.pool[links.start[a] + links.count[a]] = b
    links.count[a] += 1


@njit(cache=True, nogil=True)
def compact(links: Links, parent: Any, also: int, extra: int) -> Links:
    """The lists of living groups and of ``also`` in a new pool, with space for at least ``extra`` more entries."""
    pool, _, start, count, room = links
    live = 0
    for i in range(len(parent)):
        if parent[i] == i or i == also:
            live += count[i]
    bigger = np.empty(2 * live + extra + 1000, pool.dtype)
    end = 0
    for i in range(len(parent)):
        if parent[i] == i or i == also:
            bigger[end : end + count[i]] = pool[start[i] : start[i] + count[i]]
            start[i] = end
            room[i] = count[i]
            end += count[i]
    links.end[0] = end
    return Links(bigger, links.end, start, count, room)
