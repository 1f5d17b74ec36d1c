"""What lets programs of this package start sooner; nothing of it for processes in which a user's code runs.

Whenever PyArrow makes an array it looks whether what it is given is of pandas, and imports pandas for it: a quarter of
a second, in every process, for what is never given here. It looks for pandas once, and does without where it finds
none; ``to_pandas`` and pandas itself still work.

SciPy asks NumPy for all that it has, and NumPy then imports parts that hardly any program uses: a tenth of a second.
Of SciPy itself most commands use two compiled modules, BLAS for kernels and special functions; their packages bring 110
others, another tenth.
"""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NEW_OBJECTS = 100_000
"""Objects that are made before Python looks for some to drop, instead of some hundred."""


class _NoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("it is not looked for")


def use_arrow_without_pandas() -> None:
    """Let PyArrow find no pandas; nothing is done where pandas is there already.

    Where a user's code runs, PyArrow has to know what is of pandas.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])  # it looks now
    finally:
        sys.meta_path.remove(finder)


def import_when_used(name: str) -> None:
    """Put a module in place that is imported once something in it is asked for; its package is there already."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    package, _, own = name.rpartition(".")
    setattr(sys.modules[package], own, module)


def rarely_collect() -> None:
    """Have Python look less often for objects that nobody uses any more: nearly all are of imports, and stay."""
    gc.set_threshold(_NEW_OBJECTS)


@contextmanager
def rarely_collecting() -> Iterator[None]:
    """The same for the time of a block, in a process in which a user's code runs."""
    before = gc.get_threshold()
    if before[0]:  # else it looks for none at all
        gc.set_threshold(max(before[0], _NEW_OBJECTS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def import_meanwhile(name: str) -> None:
    """Begin to import a module in another thread: kernels leave it a core."""
    threading.Thread(target=importlib.import_module, args=(name,)).start()


def import_less() -> None:
    """Leave out, until they are asked for, parts of NumPy that SciPy would import."""
    import numpy  # noqa: F401  # whose parts they are

    for name in ("numpy.f2py", "numpy.testing"):
        import_when_used(name)


def import_alone(package: str, module: str) -> None:
    """Import a compiled module without what its package imports; the package is imported as ever once it is asked for.

    While no other thread imports anything: it would see an empty package.
    """
    if package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    if spec is None:
        return
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        importlib.import_module(f"{package}.{module}")
    except ImportError:
        pass  # of another SciPy: then with all of the package, where it is used
    finally:
        del sys.modules[package]


def special_function(name: str) -> Any:
    """A function of ``scipy.special``.

    Examples
    --------
    >>> float(special_function("stdtrit")(5, 0.975).round(3))
    2.571
    """
    found = getattr(sys.modules.get("scipy.special._ufuncs"), name, None)
    return found if found is not None else getattr(importlib.import_module("scipy.special"), name)


def start_quickly() -> None:
    """Set up this process as above, for a command or a worker that imports most of the package."""
    rarely_collect()
    use_arrow_without_pandas()
    import_less()
    import_alone("scipy.linalg", "cython_blas")
    import_alone("scipy.special", "_ufuncs")
