"""Arguments of public functions: taken if they are what they should be, else refused in words.

    np.int64(3), 3           -->  3                    whole("k", ...)
    np.float32(0.2), 1, .2   -->  0.2, 1.0, 0.2        number("max_dist", ...)
    3.0, True, "3", nan      -->  ValueError: `k` is 3.0; it must be a whole number of at least 1.

Parameters often come from NumPy (``np.arange(2, 12)``), from pandas or from JSON. A public function passes each one
through this module before any work, so that what is computed, and what is written into a result, is a plain Python
number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


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
    taken = _plain(value)
    if isinstance(taken, int) and not isinstance(taken, bool):
        if (least is None or taken >= least) and (most is None or taken <= most):
            return taken
    raise ValueError(f"`{name}` is {_shown(value)}; it must be a whole number{_bounds(least, most, None, None)}.")


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
    if isinstance(found, int | float) and not isinstance(found, bool):
        taken = float(found)
        inside = (least is None or taken >= least) and (most is None or taken <= most)
        inside = inside and (above is None or taken > above) and (below is None or taken < below)
        if inside and math.isfinite(taken):
            return taken
    raise ValueError(f"`{name}` is {_shown(value)}; it must be a number{_bounds(least, most, above, below)}.")


def flag(name: str, value: Any) -> bool:
    """True or False, Python's or NumPy's.

    Raises
    ------
    ValueError
        It is something else; 0 and 1 are, too.
    """
    taken = _plain(value)
    if isinstance(taken, bool):
        return taken
    raise ValueError(f"`{name}` is {_shown(value)}; it must be True or False.")


def choice(name: str, value: Any, choices: Collection[str]) -> str:
    """One of a few words.

    Raises
    ------
    ValueError
        It is none of them; the message lists them.
    """
    if isinstance(value, str) and value in choices:
        return str(value)
    raise ValueError(f"`{name}` is {_shown(value)}; choose one of {', '.join(choices)}.")


def _plain(value: Any) -> Any:
    """A number of NumPy, or an array without dimensions, as plain Python; anything else as it is.

    NumPy is not imported for this: commands declare their options with this module, and must start at once.
    """
    if not hasattr(value, "dtype") or getattr(value, "ndim", None) != 0:
        return value
    scalar = value[()]
    if scalar.dtype.kind == "f" and scalar.dtype.itemsize < 8:
        return float(str(scalar))
    return scalar.item()


def _shown(value: Any) -> str:
    """A value as a person would write it, however long."""
    text = repr(_plain(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _bounds(least: float | None, most: float | None, above: float | None, below: float | None) -> str:
    """Bounds in words, with a blank before them."""
    lower = f"of at least {least:g}" if least is not None else f"above {above:g}" if above is not None else ""
    upper = f"at most {most:g}" if most is not None else f"below {below:g}" if below is not None else ""
    words = " and ".join(part for part in (lower, upper) if part)
    return f" {words}" if words else ""


# -- options: said once --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """A parameter of a public function that is an option of a command, too: declared once, used by all of them.

    The check of the function, the option of the command, its help and its default all come from here; tests compare
    the default with the function's signature.

    Attributes
    ----------
    name
        Of the parameter; the command has ``--name`` with hyphens unless ``flags`` say otherwise.
    default
        Value that is taken if none is given.
    help
        What it is, with its unit; one or two sentences for a command's help.
    kind
        ``int``, ``float``, ``str`` or ``bool``.
    choices
        Words that are allowed, if only these are.
    words
        Words that are allowed beside numbers.
    least, most, above, below
        Bounds of numbers; the last two are not allowed values themselves.
    optional
        Whether None is allowed.
    required
        Whether it must be given; there is no default then.
    metavar
        What stands for the value in a command's help.
    flags
        Names on the command line.
    """

    name: str
    default: Any
    help: str
    kind: type = str
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    optional: bool = False
    required: bool = False
    metavar: str | None = None
    flags: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """Its first name on the command line."""
        return self.flags[0] if self.flags else f"--{self.name.replace('_', '-')}"

    def check(self, value: Any) -> Any:
        """The value as plain Python has it.

        Raises
        ------
        ValueError
            It is not allowed; says what is.
        """
        if value is None and self.optional:
            return None
        if self.choices:
            return choice(self.name, value, self.choices)
        if self.words and isinstance(value, str):
            return choice(self.name, value, (*self.words, "a number"))
        if self.kind is bool:
            return flag(self.name, value)
        if self.kind is int:
            least, most = (None if bound is None else int(bound) for bound in (self.least, self.most))
            return whole(self.name, value, least=least, most=most)
        if self.kind is float:
            return number(self.name, value, least=self.least, most=self.most, above=self.above, below=self.below)
        if not isinstance(value, str):
            raise ValueError(f"`{self.name}` is {_shown(value)}; it must be text.")
        return str(value)


class Options(Mapping[str, Option]):
    """Options by name, in the order of a command's help.

    Parameters
    ----------
    *options
        Each with a name of its own.
    """

    def __init__(self, *options: Option) -> None:
        self._options = {option.name: option for option in options}

    def __getitem__(self, name: str) -> Option:
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    @property
    def defaults(self) -> dict[str, Any]:
        """Default of each."""
        return {name: option.default for name, option in self._options.items()}

    def check(self, **values: Any) -> dict[str, Any]:
        """Values by name, each as its option takes it.

        Raises
        ------
        TypeError
            There is no such option.
        ValueError
            A value is not allowed.
        """
        unknown = [name for name in values if name not in self._options]
        if unknown:
            raise TypeError(f"unknown option {', '.join(unknown)}; the options are {', '.join(self._options)}.")
        return {name: self._options[name].check(value) for name, value in values.items()}
