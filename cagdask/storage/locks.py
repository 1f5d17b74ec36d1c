"""Locks: only one run at a time may write a target.

    TARGET.lock    {"host", "boot", "pid", "begun", "owner", "beat"}

The lock is made by a write that fails where there is one already: an exclusive create on a disk, a put with If-None-
Match on S3. Its process rewrites it every :data:`BEAT_SECONDS`; this is its *beat*. A lock whose process has ended is
taken over. On the same machine the process is looked up. A lock of another machine, or of a container of this one,
counts as abandoned after :data:`STALE_SECONDS` without a beat. These are measured by waiting, since the clocks of two
machines may differ; a warning says whom this waits for. A lock on a disk that was silent for :data:`OLD_SECONDS`, by
the clock of the disk, is not waited for.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cagdask.errors import StoreError
from cagdask.storage import files, s3
from cagdask.storage.paths import is_remote, is_s3, local_path

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
STALE_SECONDS = 35.0
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a file system without hard links says."""
OLD_SECONDS = 300.0
"""More than a network disk takes to tell other machines of a change."""


def lock_of(target: str) -> str:
    """Where the lock of a target lies."""
    return target.rstrip("/") + ".lock"


class _Held:
    """A lock of this process, and the thread that keeps it fresh."""

    def __init__(self, target: str, owner: str, tag: str | None) -> None:
        self.target, self.owner, self.tag = target, owner, tag
        self.thread = threading.current_thread()
        self.depth = 1
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="cagdask-lock", daemon=True)
        self._beating.start()

    def _beat(self) -> None:
        n = 0
        while not self._ended.wait(BEAT_SECONDS):
            n += 1
            try:
                self.tag = _write(lock_of(self.target), _content(self.owner, n), self.tag)
            except FileExistsError:
                logger.warning("%s: another process has taken over the lock of this run", self.target)
                return
            except Exception as err:  # the next beat may succeed; work goes on
                logger.debug("%s: the lock could not be refreshed: %s", self.target, err)

    def release(self) -> None:
        self._ended.set()
        self._beating.join(timeout=2 * BEAT_SECONDS)
        _drop(self.target, self.owner)


def _drop(target: str, owner: str) -> None:
    """Remove a lock, if it is that of ``owner``."""
    with contextlib.suppress(Exception):  # an object store that is gone must not hide why the run ended
        found = _read(lock_of(target))
        if found and found[0].get("owner") == owner:
            files.remove(lock_of(target))


_held: dict[str, _Held] = {}
_gone: set[tuple[str, ...]] = set()
"""Processes that were found to be gone: they are not waited for again at their next lock."""
_guard = threading.Lock()


def acquire(target: str) -> None:
    """Lock a target for this thread's run. Locking it again in the same thread counts up.

    Raises
    ------
    StoreError
        Another run holds it.
    """
    if is_remote(target) and not is_s3(target):  # other object stores have no conditional put that fsspec would offer
        return
    left = _held.get(target)
    if left is not None and left.depth < 1 and left.thread is threading.current_thread():
        release(target, whole=True)  # which a signal had ended
    with _guard:
        mine = _held.get(target)
        if mine is not None and (mine.thread is threading.current_thread() or not mine.thread.is_alive()):
            mine.depth += 1
            mine.thread = threading.current_thread()
            return
        if mine is not None:
            raise _refusal(target, json.loads(_content(mine.owner, 0)))
    owner = uuid.uuid4().hex
    try:
        tag = _claim(target, owner)
        with _guard:
            _held[target] = _Held(target, owner, tag)
    except BaseException:  # a signal may arrive between the file and the note of it
        if target not in _held:
            _drop(target, owner)
        raise


def release(target: str, *, whole: bool = False) -> None:
    """Unlock a target once; with ``whole``, as often as it was locked."""
    with _guard:
        mine = _held.get(target)
        if mine is None:
            return
        mine.depth -= 1
        if mine.depth > 0 and not whole:
            return
    mine.release()
    with _guard:  # not before: a release that a signal ends is made up for when this process ends
        if _held.get(target) is mine:
            del _held[target]


@contextmanager
def claimed(target: str) -> Iterator[None]:
    """Hold a target for a block."""
    acquire(target)
    try:
        yield
    finally:
        release(target)


@atexit.register
def _release_all() -> None:
    for target in list(_held):
        release(target, whole=True)


# -- the file --------------------------------------------------------------------------------------------------------


def _claim(target: str, owner: str) -> str | None:
    url = lock_of(target)
    while True:
        try:
            return _write(url, _content(owner, 0), None, create=True)
        except FileExistsError:
            found = _read(url)
        if found is None:
            continue
        held, tag = found
        if not _is_over(url, held):
            raise _refusal(target, held)
        logger.info("%s: taking over the lock of a run that is gone", target)
        try:
            return _take_over(url, _content(owner, 0), held, tag)
        except FileExistsError:
            continue


def _refusal(target: str, held: dict[str, Any]) -> StoreError:
    return StoreError(
        f"{target}: another run is writing it (process {held.get('pid')} on {held.get('host')}, since "
        f"{held.get('begun')}). Wait for it, stop it, or name another target."
    )


def _is_over(url: str, held: dict[str, Any]) -> bool:
    """Whether the process that made a lock is gone."""
    if held.get("host") == platform.node() and held.get("boot") == _boot():
        return not _is_alive(held.get("pid"), held.get("started"))
    process = tuple(str(held.get(name)) for name in ("host", "boot", "pid", "started"))
    if process in _gone or (not is_s3(url) and _seconds_since_beat(local_path(url)) > OLD_SECONDS):
        _gone.add(process)
        return True
    logger.warning(
        "%s: is locked by process %s on %s, since %s. Waiting %g s for a sign that it still runs",
        url,
        held.get("pid"),
        held.get("host"),
        held.get("begun"),
        STALE_SECONDS,
    )
    if _falls_silent(url, held):
        _gone.add(process)
        return True
    return False


def _seconds_since_beat(path: str) -> float:
    """Age of a file by the clock of the disk that it is on, which may be another machine's."""
    now = f"{path}.{uuid.uuid4().hex}"
    try:
        with open(now, "xb"):
            pass
        return os.stat(now).st_mtime - os.stat(path).st_mtime
    except OSError:
        return 0.0
    finally:
        with contextlib.suppress(OSError):
            os.remove(now)


def _falls_silent(url: str, held: dict[str, Any]) -> bool:
    """Whether a lock is not refreshed for :data:`STALE_SECONDS`."""
    end = time.monotonic() + STALE_SECONDS
    while time.monotonic() < end:
        time.sleep(min(1.0, STALE_SECONDS / 5))
        now = _read(url)
        if now is None:
            return True
        if now[0].get("beat") != held.get("beat") or now[0].get("owner") != held.get("owner"):
            return False
    return True


def _content(owner: str, beat: int) -> bytes:
    pid = os.getpid()
    said = {
        "host": platform.node(),
        "boot": _boot(),
        "pid": pid,
        "started": _started(pid),
        "begun": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "owner": owner,
        "beat": beat,
    }
    return json.dumps(said).encode()


def _boot() -> str:
    """An identifier that changes when the machine restarts, and differs between containers."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as handle:
            return handle.read().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process began, as Linux counts: tells it from a later one with its number."""
    try:
        with open(f"/proc/{pid}/stat") as handle:
            fields = handle.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _is_alive(pid: Any, started: Any) -> bool:
    if not isinstance(pid, int):
        return False
    if os.path.exists("/proc/self/stat"):
        return _started(pid) is not None and _started(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(url: str) -> tuple[dict[str, Any], str | None] | None:
    tag = None
    if is_s3(url):
        client, key = s3.bucket(url)
        with files.errors_named(url):
            found = client.get(key)
        if found is None:
            return None
        data, tag = found
    else:
        try:
            data = files.read_bytes(url)
        except FileNotFoundError:
            return None
    try:
        said = json.loads(data)
    except ValueError:
        said = None
    return (said if isinstance(said, dict) else {}), tag


def _write(url: str, data: bytes, tag: str | None, *, create: bool = False) -> str | None:
    """Write a lock if there is none (``create``), or over the one with this tag."""
    if is_s3(url):
        client, key = s3.bucket(url)
        with files.errors_named(url):
            return client.put(key, data, create=create, version=None if create else tag)
    path = local_path(url)
    if not create:
        held = _read(url)
        if held is None or held[0].get("owner") != json.loads(data)["owner"]:
            raise FileExistsError(url)
        files.write_bytes(url, data)
        return None
    partial = f"{path}.{uuid.uuid4().hex}"
    try:
        with open(partial, "xb") as handle:
            handle.write(data)
        _link(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)
    return None


def _link(partial: str, path: str) -> None:
    """Give a file its second name, where there is none yet: no other run sees a lock without content."""
    try:
        os.link(partial, path)
    except OSError as err:
        if err.errno not in _NO_LINKS:
            raise
        with open(path, "xb") as handle, open(partial, "rb") as content:
            handle.write(content.read())


def _take_over(url: str, data: bytes, held: dict[str, Any], tag: str | None) -> str | None:
    if is_s3(url):
        return _write(url, data, tag)
    aside = f"{local_path(url)}.{uuid.uuid4().hex}"
    try:
        os.rename(local_path(url), aside)
    except FileNotFoundError:
        raise FileExistsError(url) from None
    taken = json.loads(files.read_bytes(aside) or b"{}")
    if taken.get("owner") != held.get("owner"):  # someone was quicker: give its lock back
        with contextlib.suppress(FileExistsError):
            _link(aside, local_path(url))
        os.remove(aside)
        raise FileExistsError(url)
    os.remove(aside)
    return _write(url, data, None, create=True)
