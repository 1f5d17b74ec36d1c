"""Arguments of public functions: taken if they are what they should be, else refused in words.

    np.int64(3), 3           -->  3                    whole("k", ...)
    np.float32(0.2), 1, .2   -->  0.2, 1.0, 0.2        number("max_dist", ...)
    3.0, True, "3", nan      -->  ValueError: k is 3.0; it must be a whole number of at least 1.

Parameters often come from NumPy (``np.arange(2, 12)``), from pandas or from JSON. A public function passes each one
through this module before any work, so that what is computed, and what is written into a result, is a plain Python
number.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np


def whole(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """A whole number as an ``int``.

    Parameters
    ----------
    name
        Of the parameter, for the message.
    value
        An ``int`` or a NumPy integer. A float is refused even if it has no fraction: ``k=3.0`` is a slip as a rule.
    least, most
        Bounds, both allowed values.

    Raises
    ------
    ValueError
        It is something else, or out of bounds.
    """
    found = _plain(value)
    if isinstance(found, int | np.integer) and not isinstance(found, bool):
        taken = int(found)
        if (least is None or taken >= least) and (most is None or taken <= most):
            return taken
    raise ValueError(f"{name} is {_shown(value)}; it must be a whole number{_bounds(least, most, None, None)}.")


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """A finite number as a ``float``.

    Parameters
    ----------
    name
        Of the parameter, for the message.
    value
        A Python or NumPy number. A float32 or float16 becomes the float64 with the same shortest decimal:
        ``np.float32(0.2)`` means 0.2, and not 0.20000000298.
    least, most
        Bounds, both allowed values.
    above, below
        Bounds that are not allowed values.

    Raises
    ------
    ValueError
        It is something else, not finite, or out of bounds.
    """
    found = _plain(value)
    if isinstance(found, int | float | np.integer | np.floating) and not isinstance(found, bool):
        short = isinstance(found, np.floating) and found.dtype.itemsize < 8
        taken = float(str(found)) if short else float(found)
        inside = (least is None or taken >= least) and (most is None or taken <= most)
        inside = inside and (above is None or taken > above) and (below is None or taken < below)
        if inside and math.isfinite(taken):
            return taken
    raise ValueError(f"{name} is {_shown(value)}; it must be a number{_bounds(least, most, above, below)}.")


def flag(name: str, value: Any) -> bool:
    """True or False, Python's or NumPy's.

    Raises
    ------
    ValueError
        It is something else; 0 and 1 are, too.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"{name} is {_shown(value)}; it must be True or False.")


def choice(name: str, value: Any, choices: Collection[str]) -> str:
    """One of a few words.

    Raises
    ------
    ValueError
        It is none of them; the message lists them.
    """
    if isinstance(value, str) and value in choices:
        return str(value)
    raise ValueError(f"{name} is {_shown(value)}; choose one of {', '.join(choices)}.")


def _plain(value: Any) -> Any:
    """The scalar of an array without dimensions; anything else as it is. NumPy's bool becomes Python's."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    return bool(value) if isinstance(value, np.bool_) else value


def _shown(value: Any) -> str:
    """A value as a person would write it, however long."""
    text = str(value) if isinstance(value, np.generic) and not isinstance(value, np.str_) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _bounds(least: float | None, most: float | None, above: float | None, below: float | None) -> str:
    """Bounds in words, with a blank before them."""
    lower = f"of at least {least:g}" if least is not None else f"above {above:g}" if above is not None else ""
    upper = f"at most {most:g}" if most is not None else f"below {below:g}" if below is not None else ""
    words = " and ".join(part for part in (lower, upper) if part)
    return f" {words}" if words else ""
