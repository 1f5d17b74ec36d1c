"""What the page shows, as tables: each with a name, the choices that make it, and the command that makes it too.

    Choice --view by name--> pandas DataFrame     the page's tables and pictures, its downloads, and
                                                  cagdask explore RESULT --view NAME --output FILE

The page and the command call the same functions, so a downloaded file has the bytes of the command's.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.explore.session import Session
from cagdask.plot.samples import categories, is_continuous, largest_over_samples

if TYPE_CHECKING:
    import pandas as pd

QUARTERS = np.array(["1st quarter (lowest)", "2nd quarter", "3rd quarter", "4th quarter (highest)", "missing"], object)
MOST_ROWS = 500
"""CAGs of a heat map."""


@dataclass(frozen=True)
class Choice:
    """What a reader has chosen.

    Attributes
    ----------
    cag
        A CAG.
    genes
        Genes by name: one for similar genes, three for an analogy.
    max_dist
        Where the CAG is cut; None is the threshold of the result.
    by
        Column of the metadata that samples are grouped by.
    rows
        CAGs of the heat map.
    text
        Part of a gene's name.
    """

    cag: int = 0
    genes: tuple[str, ...] = ()
    max_dist: float | None = None
    by: str | None = None
    rows: int = 40
    text: str = ""


class HeatMap(NamedTuple):
    """The largest CAGs over samples, in the order of the picture.

    ``share`` (n_cags, n_samples) float32 in [0, 1], see :func:`cagdask.plot.samples.brightness_of`; ``cag``
    (n_cags,), ``sample`` (n_samples,) names, ``word`` (n_samples,) their groups.
    """

    share: NDArray[np.float32]
    cag: NDArray[np.int64]
    sample: list[str]
    word: NDArray[np.object_]


def words_of(session: Session, column: str | None) -> NDArray[np.object_]:
    """A word for each sample by a column of the metadata, numbers by quarter; empty words without a column.

    Raises
    ------
    ValueError
        There is no such column.
    """
    table = session.samples
    if column is None:
        return np.full(len(table), "", object)
    if column not in table:
        known = ", ".join(map(str, table)) or "none"
        raise ValueError(f"there is no column {column!r}; the samples have these: {known}.")
    values = table[column]
    if not is_continuous(values):
        return categories(values)
    numbers = values.to_numpy(float)
    place = np.searchsorted(np.nanquantile(numbers, [0.25, 0.5, 0.75]), numbers)
    place[np.isnan(numbers)] = 4
    return np.asarray(QUARTERS[place], object)


def samples_of(session: Session, choice: Choice) -> pd.DataFrame:
    """Abundance in every sample of the CAG, or of the gene if one is named: ``sample``, ``abundance``, ``group``."""
    import pandas as pd

    profile = session.gene_profile(choice.genes[0]) if choice.genes else session.profile(choice.cag)
    words = words_of(session, choice.by)
    order = np.lexsort((-profile, words.astype(str)))
    made = pd.DataFrame({"sample": session.samples.index.to_numpy()[order], "abundance": profile[order]})
    return made.assign(group=words[order]) if choice.by else made


def heat_map_of(session: Session, choice: Choice) -> HeatMap:
    """The heat map of the largest CAGs; similar rows, and similar samples of a group, are neighbors."""
    made = largest_over_samples(session.ds, min(choice.rows, MOST_ROWS))
    words = words_of(session, choice.by)
    columns = made.columns[np.argsort(words[made.columns].astype(str), kind="stable")]
    share = np.sqrt(made.share[np.ix_(made.rows, columns)]).astype(np.float32)
    names = session.samples.index.to_numpy()[columns]
    return HeatMap(share, made.cag[made.rows], [str(name) for name in names], words[columns])


def _heat_map_table(session: Session, choice: Choice) -> pd.DataFrame:
    import pandas as pd

    made = heat_map_of(session, choice)
    table = pd.DataFrame(made.share.round(4), columns=made.sample)
    table.insert(0, "cag", made.cag)
    return table


def _map_table(session: Session, choice: Choice) -> pd.DataFrame:
    import pandas as pd

    made = session.cag_map(wait=True)
    columns: dict[str, Any] = {"cag": np.arange(len(made.place)), "genes": session.sizes}
    columns |= {"x": made.place[:, 0], "y": made.place[:, 1], "on_rim": made.on_rim}
    return pd.DataFrame(columns)


def _similar(session: Session, choice: Choice) -> pd.DataFrame:
    return session.similar_genes(_genes(choice, 1)[0])


def _analogy(session: Session, choice: Choice) -> pd.DataFrame:
    a, b, c = _genes(choice, 3)
    return session.analogous_genes(a, b, c)


def _genes(choice: Choice, n: int) -> tuple[str, ...]:
    if len(choice.genes) != n:
        raise ValueError(f"this view needs {n} gene{'s' if n > 1 else ''}; {len(choice.genes)} given.")
    return choice.genes


def _split(session: Session, choice: Choice) -> pd.DataFrame:
    return session.split(choice.cag, session.max_dist if choice.max_dist is None else choice.max_dist)


@dataclass(frozen=True)
class View:
    """One thing that the page shows.

    Attributes
    ----------
    table
        Makes it.
    options
        Fields of :class:`Choice` that it depends on.
    needs_cags
        Whether a store without CAGs has none.
    is_picture
        Whether it can be drawn as a file too.
    """

    table: Callable[[Session, Choice], pd.DataFrame]
    options: tuple[str, ...]
    needs_cags: bool = True
    is_picture: bool = field(default=False)


VIEWS: dict[str, View] = {
    "find": View(lambda session, choice: session.find(choice.text), ("text",), needs_cags=False),
    "members": View(lambda session, choice: session.members(choice.cag), ("cag",)),
    "samples": View(samples_of, ("cag", "genes", "by"), needs_cags=False, is_picture=True),
    "nearest": View(lambda session, choice: session.nearest_cags(choice.cag), ("cag",)),
    "split": View(_split, ("cag", "max_dist"), is_picture=True),
    "similar": View(_similar, ("genes",), needs_cags=False),
    "analogy": View(_analogy, ("genes",), needs_cags=False),
    "heat-map": View(_heat_map_table, ("rows", "by"), is_picture=True),
    "map": View(_map_table, (), is_picture=True),
}
"""Everything that the page shows, by the name that the command knows it by."""
_CALLED = {"genes": "gene"}
"""Options of the command that are not called as the field of :class:`Choice`."""


def flags_of(name: str, choice: Choice) -> list[str]:
    """Options of the command that make a view."""
    flags = []
    for option in VIEWS[name].options:
        value = getattr(choice, option)
        if value is None or value in ("", ()) or (option == "cag" and choice.genes and name == "samples"):
            continue
        for one in value if isinstance(value, tuple) else (value,):
            flags += [_flag(_CALLED.get(option, option)), f"{one:.6g}" if isinstance(one, float) else str(one)]
    return flags


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def file_name(name: str, choice: Choice, suffix: str) -> str:
    """Name of a download: what it is, and of which CAG."""
    of = f"-cag-{choice.cag}" if "cag" in VIEWS[name].options and not choice.genes else ""
    return f"{name}{of}.{suffix}"


def command_of(session: Session, name: str, choice: Choice, suffix: str = "tsv") -> str:
    """The command that writes a view as a file, ready for a shell."""
    words = ["cagdask", "explore", session.url, _flag("view"), name, *flags_of(name, choice)]
    return shlex.join([*words, _flag("output"), file_name(name, choice, suffix)])


def content_of(session: Session, name: str, choice: Choice, suffix: str) -> bytes:
    """A view as the bytes of a file: a table (``tsv``, ``parquet``) or a picture (``png``, ``svg``).

    Raises
    ------
    ValueError
        The view is no picture, the store has no CAGs, or a choice does not fit.
    """
    view = VIEWS[name]
    if view.needs_cags and not session.has_cags:
        raise ValueError(f"{session.source}: holds no CAGs, so there is no {name}. Cluster it first: cagdask cluster.")
    if suffix in ("png", "svg"):
        from cagdask.explore.drawings import draw

        if not view.is_picture:
            pictures = ", ".join(key for key, one in VIEWS.items() if one.is_picture)
            raise ValueError(f"{name} is a table, and no picture; {pictures} are. Name a file that ends in .tsv.")
        return draw(session, name, choice, suffix)
    buffer = BytesIO()
    table = view.table(session, choice)
    if suffix == "parquet":
        table.to_parquet(buffer, index=False)
    else:
        buffer.write(table.to_csv(sep="\t", index=False, lineterminator="\n").encode())
    return buffer.getvalue()
