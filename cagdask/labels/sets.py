"""Labels of samples as sets: one label per sample, or several.

    folder   tissue/brain.txt, tissue/liver.txt    a list of samples per label, one name a line     several
    table    sample, label                         one row per sample, or one per sample and label  one or several
    table    sample, brain, liver, …               columns of 0 and 1                               several
    column   of the store's sample metadata        one label, or several with a separator           one or several

All of them become a matrix of samples x labels, with what did not fit listed: samples that the store does not have,
samples without any label, samples with two labels where one is meant.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError
from cagdask.labels.reading import read_table, sample_metadata, some_of

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("auto", "single", "several")
_TRUE, _FALSE = {"1", "1.0", "true", "yes", "t"}, {"0", "0.0", "false", "no", "f", ""}
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class LabelSet:
    """Labels of the samples of a store.

    Attributes
    ----------
    names
        Labels, sorted.
    member
        Which sample has which label, shape (n_samples, n_labels), bool, samples in the store's order.
    table
        What else is known of the samples, one row each.
    single
        Whether a sample has one label at most.
    unknown
        Samples with a label that the store does not have.
    conflicts
        Samples with two labels where one was asked for; they count as samples without.
    """

    names: tuple[str, ...]
    member: Bools
    table: pd.DataFrame
    single: bool
    unknown: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()

    @property
    def labelled(self) -> Bools:
        """Samples with a label, shape (n_samples,)."""
        return np.asarray(self.member.any(axis=1))

    @property
    def without(self) -> list[str]:
        """Names of the samples without a label."""
        return [str(name) for name in self.table.index[~self.labelled]]

    def only(self, names: list[str]) -> LabelSet:
        """The same samples with some of the labels."""
        kept = [self.names.index(name) for name in names]
        return LabelSet(tuple(names), self.member[:, kept], self.table, self.single, self.unknown, self.conflicts)

    def column(self, name: str, what: str) -> NDArray[np.object_]:
        """A column of :attr:`table` as text, missing values as empty text.

        Raises
        ------
        InputError
            There is no such column.
        """
        if name not in self.table:
            known = ", ".join(map(str, self.table.columns)) or "none"
            raise InputError(f"no column {name!r} for {what}; the samples have {known}.")
        values = self.table[name]
        return np.asarray(values.where(values.isna(), values.astype(str)).fillna("").astype(str), object)

    def messages(self) -> list[str]:
        """What a user should know of labels that did not fit."""
        said = []
        if self.unknown:
            said.append(f"{len(self.unknown):,} labelled samples are not in the store: {some_of(list(self.unknown))}")
        if self.conflicts:
            said.append(f"{len(self.conflicts):,} samples have two labels and are left out: "
                        f"{some_of(list(self.conflicts))}")  # fmt: skip
        if self.without:
            said.append(f"{len(self.without):,} of {len(self.table):,} samples have no label: {some_of(self.without)}")
        return said


def read_label_set(
    labels: str,
    url: str,
    samples: list[str],
    *,
    column: str | None = None,
    separator: str | None = None,
    kind: str = "auto",
) -> LabelSet:
    """Labels of the samples of a store.

    Parameters
    ----------
    labels
        A folder of lists of samples, a TSV or CSV with names of samples in its first column, or a column of the
        store's sample metadata.
    url, samples
        The store, and the names of its samples.
    column
        Of a table: the column with the label, by default its second; or several columns of 0 and 1, with commas
        between their names. Without it, a table of two or more columns that holds nothing but 0 and 1 is taken whole.
    separator
        What stands between the labels of a sample in a cell.
    kind
        ``single``: a sample has one label, and one with two is a conflict; ``several``: it may have more; ``auto``:
        whichever is found, but two rows of a sample in a table must be meant.

    Raises
    ------
    InputError
        Nothing of the kind is there, no sample is known, or a table gives a sample two labels unasked.
    """
    if kind not in KINDS:
        raise ValueError(f"`label_kind` is {kind!r}; choose one of {', '.join(KINDS)}.")
    own = sample_metadata(url, samples)
    if _is_folder(labels):
        if column or separator:
            raise ValueError(f"{labels} is a folder: a column or separator is for tables. Leave them out.")
        pairs, table = _from_folder(labels, set(samples)), own
    elif storage.exists(labels):
        pairs, table = _from_table(labels, column, separator, kind)
        table = table.reindex(samples)
        for name in own.columns.difference(table.columns):
            table[name] = own[name]
    elif labels in own and column is None:
        pairs, table = _split({name: [value] for name, value in own[labels].items()}, separator), own
    else:
        known = ", ".join(map(str, own.columns)) or "none"
        raise InputError(f"{labels}: is no folder, no file and no column of the samples of {url} (it has {known}).")
    return _as_set(labels, pairs, table, samples, kind)


def _as_set(said: str, pairs: dict[str, list[str]], table: pd.DataFrame, samples: list[str], kind: str) -> LabelSet:
    """``pairs``: labels of each sample, in the order found; a label may be there without samples."""
    place = {name: row for row, name in enumerate(samples)}
    names = sorted({label for some in pairs.values() for label in some})
    code = {name: i for i, name in enumerate(names)}
    unknown = sorted(name for name, some in pairs.items() if some and name not in place)
    member = np.zeros((len(samples), len(names)), bool)
    for name, some in pairs.items():
        if name in place:
            member[place[name], [code[label] for label in some]] = True
    if not member.any():
        raise InputError(f"{said}: none of its {len(pairs):,} samples is in the store. Check how samples are named.")
    twice = member.sum(axis=1) > 1
    single = kind == "single" or (kind == "auto" and not twice.any())
    conflicts = [name for name, two in zip(samples, twice, strict=True) if two] if single else []
    if single:
        member[twice] = False
    return LabelSet(tuple(names), member, table, single, tuple(unknown), tuple(conflicts))


# -- where labels come from ------------------------------------------------------------------------------------------


def _is_folder(url: str) -> bool:
    if not storage.is_remote(url):
        return os.path.isdir(storage.local_path(url))
    files = storage.list_files(url) if storage.exists(url) else {}
    return bool(files) and set(files) != {""}


def _from_folder(url: str, samples: set[str]) -> dict[str, list[str]]:
    files = {name: size for name, size in sorted(storage.list_files(url).items()) if not name.startswith(".")}
    if not files:
        raise InputError(f"{url}: the folder of labels is empty. It takes one file per label, a sample on each line.")
    found: dict[str, list[str]] = {}
    taken: dict[str, str] = {}
    for name in files:
        label = os.path.splitext(name.removesuffix(".gz"))[0]
        if label in taken:
            raise InputError(f"{url}: {taken[label]} and {name} are both lists of {label!r}. Keep one of them.")
        taken[label] = name
        for sample in _listed(storage.join(url, name), samples):
            some = found.setdefault(sample, [])
            if label not in some:
                some.append(label)
    return found


def _listed(url: str, samples: set[str]) -> list[str]:
    """Names in a list: the first field of each line; or the header of a table whose columns are samples."""
    import gzip

    data = storage.read_bytes(url)
    try:
        lines = (gzip.decompress(data) if url.endswith(".gz") else data).decode("utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as err:
        raise InputError(f"{url}: is no text. A list has the name of a sample on each line.") from err
    head = [field.strip().strip('"') for field in lines[0].split("\t")] if lines else []
    if any(field in samples for field in head[1:]):
        return [field for field in head[1:] if field]
    return [name for name in (line.split("\t")[0].strip().strip('"') for line in lines) if name]


def _from_table(
    url: str, column: str | None, separator: str | None, kind: str
) -> tuple[dict[str, list[str]], pd.DataFrame]:
    table = read_table(url)
    chosen = column.split(",") if column else list(table.columns[:1])
    known = ", ".join(map(str, table.columns)) or "none"
    for name in chosen or ["label"]:
        if name not in table:
            raise InputError(f"{url}: has no column {name!r} (it has {known}).")
    if column is None and table.shape[1] > 1 and all(_is_marks(table[name]) for name in table):
        chosen = list(table.columns)
    if len(chosen) > 1:
        if table.index.has_duplicates:
            twice = table.index[table.index.duplicated()][0]
            raise InputError(f"{url}: sample {twice!r} has more than one row. Keep one of each.")
        return _marked(url, table, chosen), table
    cells: dict[str, list[Any]] = {}
    for name, value in table[chosen[0]].items():
        cells.setdefault(str(name), []).append(value)
    pairs = _split(cells, separator)
    _check_rows(url, table, chosen[0], pairs, kind == "auto" and separator is None)
    return pairs, table[~table.index.duplicated()]


def _split(cells: dict[Any, list[Any]], separator: str | None) -> dict[str, list[str]]:
    import pandas as pd

    found: dict[str, list[str]] = {}
    for name, values in cells.items():
        texts = [str(value) for value in values if not pd.isna(value)]
        parts = [part for text in texts for part in (text.split(separator) if separator else [text])]
        found[str(name)] = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    return found


def _check_rows(url: str, table: pd.DataFrame, column: str, pairs: dict[str, list[str]], one: bool) -> None:
    """Refuse two labels of a sample where one is meant, and rows of a sample that differ in anything else."""
    if not table.index.has_duplicates:
        return
    twice = [name for name, some in pairs.items() if len(some) > 1]
    if one and twice:
        two = " and ".join(map(repr, pairs[twice[0]][:2]))
        raise InputError(
            f"{url}: {len(twice):,} samples have rows with different labels, the first is {twice[0]!r} with {two}. Say "
            "whether they have several (`label_kind='several'`), or are to be left out (`label_kind='single'`)."
        )
    others = table[table.index.duplicated(keep=False)].drop(columns=column).fillna("").astype(str)
    differ = others.groupby(level=0).nunique() > 1
    if differ.to_numpy().any():
        row, at = np.argwhere(differ.to_numpy())[0]
        raise InputError(f"{url}: rows of sample {differ.index[row]!r} differ in column {differ.columns[at]!r}. "
                         "Give it one value.")  # fmt: skip


def _is_marks(values: pd.Series) -> bool:
    texts = {str(value).strip().lower() for value in values.dropna().unique()}
    return bool(texts) and texts <= _TRUE | _FALSE


def _marked(url: str, table: pd.DataFrame, columns: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {str(name): [] for name in table.index}
    for column in columns:
        texts = table[column].where(table[column].notna(), "").astype(str).str.strip().str.lower()
        wrong = ~texts.isin(_TRUE | _FALSE)
        if wrong.any():
            name = texts.index[wrong][0]
            raise InputError(
                f"{url}: sample {name!r} has {table.loc[name, column]!r} in column {column!r}, where labels in several "
                "columns are marked by 0 and 1. Mark it, or name one column."
            )
        for name in texts.index[texts.isin(_TRUE)]:
            found[str(name)].append(str(column))
    return found
