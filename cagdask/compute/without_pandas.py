"""PyArrow without pandas, for processes in which nothing but this package runs.

Whenever PyArrow makes an array it looks whether what it is given is of pandas, and imports pandas for it: a quarter of
a second, in every process, for what is never given here. It looks for pandas once, and does without where it finds
none; ``to_pandas`` and pandas itself still work.
"""

from __future__ import annotations

import importlib.abc
import sys
from typing import Any


class _NoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("it is not looked for")


def use_arrow_without_pandas() -> None:
    """Let PyArrow find no pandas; nothing is done where pandas is there already.

    Only for programs of this package: where a user's code runs, PyArrow has to know what is of pandas.
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
