"""What lets programs of this package start sooner; nothing of it for processes in which a user's code runs.

Whenever PyArrow makes an array it looks whether what it is given is of pandas, and imports pandas for it: a quarter of
a second, in every process, for what is never given here. It looks for pandas once, and does without where it finds
none; ``to_pandas`` and pandas itself still work.

SciPy asks NumPy for all that it has, and NumPy then imports parts that hardly any program uses: a tenth of a second.
"""

from __future__ import annotations

import gc
import importlib.abc
import importlib.util
import sys
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


def import_less() -> None:
    """Leave out, until they are asked for, parts of NumPy that SciPy would import."""
    import numpy  # noqa: F401  # whose parts they are

    for name in ("numpy.f2py", "numpy.testing"):
        import_when_used(name)


def start_quickly() -> None:
    """Set up this process as above, for a command or a worker that imports most of the package."""
    rarely_collect()
    use_arrow_without_pandas()
    import_less()
