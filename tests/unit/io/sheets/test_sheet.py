from __future__ import annotations

import gzip
import json
import os

import fsspec
import pytest

from cagdask.errors import InputError
from cagdask.io.sheets.sheet import read_sheet


@pytest.fixture
def folder(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("[]")
    return tmp_path


def write(folder, content, name="sheet.json"):
    path = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


@pytest.mark.parametrize("name", ["sheet.json", "sheet.json.gz"])
def test_samples_come_in_the_order_of_the_sheet(folder, name):
    found = read_sheet(write(folder, '{"z": "b.json", "a": "a.json"}', name))
    assert [(file.sample, file.url, file.size) for file in found] == [
        ("z", str(folder / "b.json"), 2),
        ("a", str(folder / "a.json"), 2),
    ]


def test_one_file_may_serve_two_samples(folder):
    assert len(read_sheet(write(folder, '{"x": "a.json", "y": "a.json"}'))) == 2


def test_relative_paths_are_looked_up_beside_the_sheet_then_in_the_working_directory(
    folder, tmp_path_factory, monkeypatch
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "a.json").write_text("[1]")
    (elsewhere / "c.json").write_text("[1]")
    monkeypatch.chdir(elsewhere)
    found = read_sheet(write(folder, '{"beside": "a.json", "working": "c.json"}'))
    assert [file.url for file in found] == [str(folder / "a.json"), str(elsewhere / "c.json")]


def test_a_sheet_and_its_samples_may_be_remote():
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/sheets/a.json", b"[]")
    fs.pipe_file("/sheets/sheet.json", json.dumps({"a": "a.json", "b": "memory://sheets/a.json"}).encode())
    assert [file.url for file in read_sheet("memory://sheets/sheet.json")] == ["memory://sheets/a.json"] * 2


def test_age_of_a_file_is_part_of_what_is_found(folder):
    sheet = write(folder, '{"a": "a.json"}')
    before = read_sheet(sheet)
    os.utime(folder / "a.json", ns=(1, 1))
    assert read_sheet(sheet) != before


@pytest.mark.parametrize(
    ("content", "useful"),
    [
        ("", "this sample sheet is empty"),
        ("  \n", "this sample sheet is empty"),
        ('{"a": "a.json"', "the JSON is cut off after 14 bytes"),
        ('{"a": "a.js', "the JSON is cut off"),
        ('{"a": a.json}', "is not JSON .*line 1, column 7"),
        (b'{"a": "\xff"}', "is not UTF-8 text"),
        ("[]", "holds a JSON list, so it is a sample's own file"),
        ('[{"id": "g", "depth": 1}]', "Write a sheet such as"),
        ('{"results": [{"id": "g", "depth": 1}]}', "'results' is a list, so this is a sample's own file"),
        ("3", "is a JSON object, this is the number 3"),
        ("{}", "names no samples"),
        ('{"a": "a.json", "a": "b.json"}', "sample 'a' occurs twice"),
        ('{"": "a.json"}', "has an empty name"),
        ('{"a": 3}', "sample 'a': the path is the number 3"),
        ('{"a": null}', "sample 'a': the path is null"),
        ('{"a": ""}', "sample 'a': the path is empty text"),
        ('{"a": {"b": 1}}', "sample 'a': the path is an object"),
        ('{"a": "a.json", "b": "no.json"}', r"1 of 2 sample files are missing: b \(no.json\)"),
        ('{"a": "."}', "1 of 1 sample files are missing"),
        (json.dumps({str(i): f"{i}.json" for i in range(9)}), r"9 of 9 .* missing: 0 \(0.json\), .* and 6 more"),
    ],
)
def test_bad_sheets_are_refused_with_a_sentence(folder, content, useful):
    sheet = write(folder, content)
    with pytest.raises(InputError, match=useful) as caught:
        read_sheet(sheet)
    assert str(caught.value).startswith(sheet)
    assert "\n" not in str(caught.value)


def test_a_missing_sheet_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.json: no such sample sheet"):
        read_sheet(str(tmp_path / "nowhere.json"))


def test_a_folder_is_no_sheet(tmp_path):
    with pytest.raises(InputError, match="can not be read as a sample sheet"):
        read_sheet(str(tmp_path))


def test_a_damaged_gzip_sheet_is_refused(folder):
    data = gzip.compress(b'{"a": "a.json"}')
    sheet = write(folder, data[:-6])
    with pytest.raises(InputError, match="gzip data are damaged or cut off"):
        read_sheet(sheet)
