"""Labels as sets: from folders of lists, tables and metadata, with what does not fit said by name."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cagdask import storage
from cagdask.errors import InputError
from cagdask.labels.judging import confounded, judge
from cagdask.labels.sets import LabelSet, read_label_set
from tests.conftest import MakeStore

SAMPLES = ["s1", "s2", "s3", "s4"]


@pytest.fixture
def store(abundance_store: MakeStore) -> str:
    url = abundance_store(np.ones((2, 4)), sample_ids=SAMPLES)
    group = storage.open_group(url, writable=True)
    storage.write_array(
        group, "sample_site", np.array(["gut", "skin", "gut", ""], object), dims=("sample",), dtype="str"
    )
    storage.finish_group(group)
    return url


def read(store: str, labels: object, **options: Any) -> LabelSet:
    return read_label_set(str(labels), store, SAMPLES, **options)


def rows(found: LabelSet) -> list[set[str]]:
    return [{name for name, one in zip(found.names, row, strict=True) if one} for row in found.member.tolist()]


def test_a_folder_of_lists_gives_several_labels_a_sample(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    (folder / "cell_lines").mkdir(parents=True)
    (folder / "brain.txt").write_text("s1\ns2\n\ns9\n")
    (folder / "adult.tsv.gz").write_bytes(gzip.compress(b"s1\nthe comment\tof s1\n"))
    (folder / "cell_lines" / "hela.txt").write_text("gene\ts3\ts1\nTP53\t1\t2\n")
    (folder / "none.txt").write_text("")
    found = read(store, folder)
    assert rows(found) == [{"adult", "brain", "cell_lines/hela"}, {"brain"}, {"cell_lines/hela"}, set()]
    assert not found.single
    assert found.unknown == ("s9", "the comment")
    assert found.without == ["s4"]
    assert found.messages() == [
        "2 labelled samples are not in the store: s9, the comment",
        "1 of 4 samples have no label: s4",
    ]


def test_two_lists_of_a_sample_are_a_conflict_where_one_label_is_meant(store: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("s1\ns2\n")
    (tmp_path / "b.txt").write_text("s2\ns3\n")
    folder = tmp_path / "lists"
    folder.mkdir()
    for name in "ab":
        (tmp_path / f"{name}.txt").rename(folder / f"{name}.txt")
    found = read(store, folder, kind="single")
    assert rows(found) == [{"a"}, set(), {"b"}, set()]
    assert found.conflicts == ("s2",)
    assert "1 samples have two labels and are left out: s2" in found.messages()


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("id\ttissue\tage\ns1\tbrain\t3\ns2\tliver\t4\n", {}, [{"brain"}, {"liver"}, set(), set()]),
        ("id\tx\ttissue\ns1\t1\tbrain;adult\ns2\t2\tliver\n", {"column": "tissue", "separator": ";"},
         [{"adult", "brain"}, {"liver"}, set(), set()]),
        ("id\ttissue\ns1\tbrain\ns1\tadult\n", {"kind": "several"}, [{"adult", "brain"}, set(), set(), set()]),
        ("id,brain,liver\ns1,1,0\ns2,0,1\ns3,1,1\ns4,,\n", {}, [{"brain"}, {"liver"}, {"brain", "liver"}, set()]),
        ("id\tage\tbrain\tliver\ns1\t7\tyes\tno\n", {"column": "brain,liver"}, [{"brain"}, set(), set(), set()]),
    ],
)  # fmt: skip
def test_tables_of_every_form(store: str, tmp_path: Path, text: str, options: dict[str, Any], expected: object) -> None:
    (tmp_path / "labels.tsv").write_text(text)
    assert rows(read(store, tmp_path / "labels.tsv", **options)) == expected


def test_a_metadata_column_gives_labels(store: str) -> None:
    found = read(store, "site")
    assert rows(found) == [{"gut"}, {"skin"}, {"gut"}, set()]
    assert list(found.column("site", "studies")) == ["gut", "skin", "gut", ""]
    with pytest.raises(InputError, match="no column 'batch' for studies; the samples have site"):
        found.column("batch", "studies")


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("id\tx\ns1\ta\ns1\tb\n", {}, r"1 samples have rows with different labels, the first is 's1' with 'a' and 'b'"),
        ("id\tx\tstudy\ns1\ta\tp\ns1\ta\tq\n", {}, r"rows of sample 's1' differ in column 'study'"),
        ("id\tx\ty\ns1\t1\t0\ns2\t2\t0\n", {"column": "x,y"}, r"sample 's2' has .*2.* in column 'x'"),
        ("id\tx\nt1\ta\n", {}, r"none of its 1 samples is in the store"),
        ("id\tx\ns1\ta\n", {"column": "z"}, r"has no column 'z' \(it has x\)"),
    ],
)
def test_tables_that_can_not_be_meant(store: str, tmp_path: Path, text: str, options: Any, said: str) -> None:
    (tmp_path / "labels.tsv").write_text(text)
    with pytest.raises(InputError, match=said):
        read(store, tmp_path / "labels.tsv", **options)


def test_an_empty_folder_and_two_lists_of_a_label_are_refused(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    with pytest.raises(InputError, match="the folder of labels is empty"):
        read(store, folder)
    (folder / "a.txt").write_text("s1\n")
    (folder / "a.tsv").write_text("s1\n")
    with pytest.raises(InputError, match=r"a\.tsv and a\.txt are both lists of 'a'"):
        read(store, folder)
    with pytest.raises(InputError, match=r"is no folder, no file and no column of the samples .*it has site"):
        read(store, "nowhere")


def test_labels_that_can_not_be_learned_are_named(store: str, tmp_path: Path) -> None:
    (tmp_path / "l.tsv").write_text("id\tx\tstudy\ns1\ta\tp\ns2\ta\tq\ns3\tb\tq\ns4\tc\tq\n")
    found = read(store, tmp_path / "l.tsv")
    verdicts = judge(found, found.column("study", "studies"), 1)
    assert [(one.label, one.n_samples, one.n_studies, one.why_not) for one in verdicts] == [
        ("a", 2, 2, ""),
        ("b", 1, 1, "all its samples are from one study"),
        ("c", 1, 1, "all its samples are from one study"),
    ]
    assert judge(found, None, 2)[1].why_not == "fewer than 2 samples"
    (tmp_path / "one.tsv").write_text("id\tx\ns1\ta\ns2\ta\n")
    assert judge(read(store, tmp_path / "one.tsv"), None, 1)[0].why_not == "every labelled sample has it"


def test_a_label_that_follows_from_the_study_is_found(store: str, tmp_path: Path) -> None:
    (tmp_path / "l.tsv").write_text("id\tx\tstudy\ns1\ta\tp\ns2\ta\tp\ns3\tb\tq\ns4\tc\tq\n")
    found = read(store, tmp_path / "l.tsv")
    assert confounded(found, found.column("study", "studies")) == ["a"]
