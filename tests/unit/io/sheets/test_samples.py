from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cagdask.errors import InputError, MemoryLimitError
from cagdask.io.sheets.samples import SKETCH, check_keys, read_sample

KEYS = ["results", "depth", "id"]
BUDGET = 2**30


def read(folder, content, *, keys=KEYS, signed=False, budget=BUDGET, name="sample.json"):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    target = folder / "out.parquet"
    target.unlink(missing_ok=True)
    answer = read_sample("s1", str(path), len(data), "0", keys, signed, budget, str(target))
    table = pq.read_table(target)
    return dict(zip(table["id"].to_pylist(), table["abundance"].to_pylist(), strict=True)), answer


@pytest.mark.parametrize(
    "content",
    [
        b'[{"id": "a", "depth": 1}, {"id": "b", "depth": 2, "depth": 3}]',
        b' {"results": [{"id": "a", "depth": 1, "id": "b"}]}',
        b'{"id": "a", "depth": 1}\n{"id": "b", "depth": 2, "depth": 3}\n',
    ],
    ids=["list", "keyed", "lines"],
)
def test_a_record_with_a_key_twice_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"the key '(depth|id)' occurs 2 times in one object: one value would be lost"):
        read(tmp_path, content)
    inner = b'[{"id": "a", "depth": 1, "of": {"id": "x", "depth": [1]}}]'
    assert read(tmp_path, inner)[0] == {"a": 1.0}, "the same name in another object is another key"


RECORDS = [{"id": "b", "depth": 2, "x": [1]}, {"depth": 0.5, "id": "a"}, {"id": "c", "depth": 0.0}]


@pytest.mark.parametrize("name", ["sample.json", "sample.json.gz"])
@pytest.mark.parametrize("content", [RECORDS, {"results": RECORDS, "other": {"id": 1}}], ids=["list", "keyed"])
def test_records_come_out_sorted_without_zeros(tmp_path, content, name):
    found, answer = read(tmp_path, content, name=name)
    assert list(found.items()) == [("a", 0.5), ("b", 2.0)]
    assert answer["n_genes"] == 2
    assert answer["id_bytes"] == 2
    assert answer["sketch"] == ["a", "b"]


def test_gzip_is_known_by_its_content_not_its_name(tmp_path):
    found, _ = read(tmp_path, gzip.compress(json.dumps(RECORDS).encode()))
    assert found == {"a": 0.5, "b": 2.0}


def test_several_gzip_members_and_a_byte_order_mark_are_read(tmp_path):
    text = json.dumps(RECORDS).encode()
    found, _ = read(tmp_path, gzip.compress(b"\xef\xbb\xbf" + text[:9]) + gzip.compress(text[9:]))
    assert found == {"a": 0.5, "b": 2.0}


def test_dotted_paths_lead_into_nested_objects(tmp_path):
    content = {"out": {"genes": [{"gene": {"name": "g", "n": 1}, "stats": {"rpkm": 3, "id": 4}}]}}
    found, _ = read(tmp_path, content, keys=["out.genes", "stats.rpkm", "gene.name"])
    assert found == {"g": 3.0}
    found, _ = read(tmp_path, content, keys=["out.genes", "stats.rpkm", "stats.id"])
    assert found == {"4": 3.0}


def test_whole_number_ids_become_text(tmp_path):
    found, _ = read(tmp_path, [{"id": 10, "depth": 1}, {"id": 9, "depth": 1}, {"id": "x", "depth": 1}])
    assert list(found) == ["10", "9", "x"]


def test_content_alone_makes_the_digest(tmp_path):
    _, one = read(tmp_path, RECORDS)
    _, two = read(tmp_path, {"results": RECORDS[::-1]}, name="other.json.gz")
    _, three = read(tmp_path, [{"id": "a", "depth": 0.5}, {"id": "b", "depth": 2.5}])
    assert one["digest"] == two["digest"] != three["digest"]


def test_values_too_small_for_float32_count_as_absent_and_are_counted(tmp_path):
    found, answer = read(tmp_path, [{"id": "a", "depth": 1e-60}, {"id": "b", "depth": 1e-40}, {"id": "c", "depth": 0}])
    assert list(found) == ["b"]
    assert answer["n_vanished"] == 1


def test_an_empty_sample_is_read(tmp_path):
    for content in ([], {"results": []}, [{"id": "a", "depth": 0}]):
        found, answer = read(tmp_path, content)
        assert found == {}
        assert answer["n_genes"] == 0
        assert answer["sketch"] == []


def test_a_sketch_is_evenly_spaced(tmp_path):
    names = [f"{i:05d}" for i in range(3000)]
    _, answer = read(tmp_path, [{"id": name, "depth": 1} for name in names])
    sketch = [int(name) for name in answer["sketch"]]
    assert len(sketch) == SKETCH
    assert (sketch[0], sketch[-1]) == (0, 2999)
    assert set(np.diff(sketch)) <= {5, 6}


def test_expression_may_be_negative(tmp_path):
    assert read(tmp_path, [{"id": "a", "depth": -1.5}], signed=True)[0] == {"a": -1.5}


@given(st.dictionaries(st.text(min_size=1, max_size=12), st.floats(0, 3e38, allow_subnormal=False), max_size=40))
def test_reading_is_what_a_dictionary_says(tmp_path, truth):
    found, answer = read(tmp_path, [{"depth": v, "id": k, "z": None} for k, v in truth.items()])
    expected = {k: float(np.float32(v)) for k, v in truth.items() if np.float32(v) != 0}
    assert found == expected
    assert list(found) == sorted(expected, key=str.encode)
    assert answer["n_genes"] == len(expected)


GOOD = '{"id": "g0", "depth": 1}'


@pytest.mark.parametrize(
    ("record", "useful"),
    [
        ('{"id": "g1"}', "record 2, gene 'g1': has no key 'depth' .it has id.. .*`abundance_key`"),
        ('{"depth": 1}', "record 2: has no key 'id' .it has depth.. .*`gene_id_key`"),
        ("{}", "record 2: has no key 'id' .it is empty."),
        ("[1]", "record 2: is a list of 1, not an object"),
        ('{"id": "g1", "depth": -1}', "record 2, gene 'g1': 'depth' is -1; abundances are 0 or more"),
        ('{"id": "g1", "depth": NaN}', "record 2, gene 'g1': 'depth' is NaN"),
        ('{"id": "g1", "depth": Infinity}', "record 2, gene 'g1': 'depth' is infinite"),
        ('{"id": "g1", "depth": -Infinity}', "record 2, gene 'g1': 'depth' is infinite"),
        ('{"id": "g1", "depth": 1e999}', "record 2, gene 'g1': 'depth' is infinite"),
        ('{"id": "g1", "depth": 1e39}', "record 2, gene 'g1': 'depth' is 1e.39, above 3.4e.38"),
        ('{"id": "g1", "depth": 1' + 400 * "0" + "}", "record 2, gene 'g1': 'depth' is 1000.*, above 3.4e.38"),
        ('{"id": "g1", "depth": true}', "record 2, gene 'g1': 'depth' is the boolean true"),
        ('{"id": "g1", "depth": "1.5"}', "record 2, gene 'g1': 'depth' is the text '1.5', .* without quotes"),
        ('{"id": "g1", "depth": null}', "record 2, gene 'g1': 'depth' is null"),
        ('{"id": "g1", "depth": [1]}', "record 2, gene 'g1': 'depth' is a list of 1"),
        ('{"id": "g1", "depth": {"a": 1}}', "record 2, gene 'g1': 'depth' is an object"),
        ('{"id": "", "depth": 1}', "record 2: gene id 'id' is empty text"),
        ('{"id": null, "depth": 1}', "record 2: gene id 'id' is null"),
        ('{"id": true, "depth": 1}', "record 2: gene id 'id' is the boolean true"),
        ('{"id": 1.5, "depth": 1}', "record 2: gene id 'id' is the number 1.5"),
        ('{"id": ["g1"], "depth": 1}', "record 2: gene id 'id' is a list of 1"),
        ('{"id": "g0", "depth": 0}', "gene 'g0' occurs twice .records 1 and 2."),
    ],
)
@pytest.mark.parametrize("form", ["[%s, %s]", '{"results": [%s, %s]}'], ids=["list", "keyed"])
def test_bad_records_are_refused_with_a_sentence(tmp_path, record, useful, form):
    with pytest.raises(InputError, match=useful) as caught:
        read(tmp_path, (form % (GOOD, record)).encode())
    assert str(caught.value).startswith(str(tmp_path / "sample.json") + ": sample 's1'")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.parquet").exists()


def test_a_number_and_a_text_of_one_name_are_one_gene(tmp_path):
    with pytest.raises(InputError, match="gene '5' occurs twice"):
        read(tmp_path, [{"id": 5, "depth": 1}, {"id": "5", "depth": 1}])


@pytest.mark.parametrize(
    ("content", "useful"),
    [
        (b"", "the file of sample 's1' is empty"),
        (b'{"results": [{"id": "a", "depth": 1}', "the JSON is cut off after"),
        (b'[{"id": "a", "depth": 1}] x', "is not JSON .Extra data"),
        (b"hello", "is not JSON"),
        (b'[{"id": "\xff", "depth": 1}]', "is not UTF-8"),
        (b'{"genes": []}', "has no key 'results' .it has genes.. .*`results_key`"),
        (b'{"results": {"a": 1}}', "'results' is an object of 1 keys, not a list"),
        (b"3", "has no key 'results' .it is the number 3."),
        (gzip.compress(b"[]" * 999, mtime=0)[:-9], "gzip data are damaged or cut off"),
        (b"\x1f\x8bnonsense", "gzip data are damaged"),
    ],
)
def test_bad_files_are_refused_with_a_sentence(tmp_path, content, useful):
    with pytest.raises(InputError, match=useful) as caught:
        read(tmp_path, content)
    assert "'s1'" in str(caught.value)
    assert not (tmp_path / "out.parquet").exists()


def test_a_file_that_went_away_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone.json: the file of sample 's1' is gone"):
        read_sample("s1", str(tmp_path / "gone.json"), 1, "0", KEYS, False, BUDGET, str(tmp_path / "out"))


@pytest.mark.parametrize("name", ["sample.json", "sample.json.gz"])
def test_a_sample_that_can_not_fit_is_refused_before_it_is_parsed(tmp_path, name):
    content = [{"id": f"g{i}", "depth": 1} for i in range(1000)]
    with pytest.raises(MemoryLimitError, match=r"sample 's1' is at least .* KiB of JSON .*`memory_limit`"):
        read(tmp_path, content, budget=40_000, name=name)


def test_without_memory_to_explain_the_parsers_own_words_are_given(tmp_path):
    with pytest.raises(InputError, match=r"sample 's1': Expected `float`, got `str` - at `\$\[1\].depth`"):
        read(tmp_path, [{"id": "a", "depth": 1}, {"id": "b", "depth": "1"}], budget=300)


@pytest.mark.parametrize(
    ("keys", "useful"),
    [
        (("", "depth", "id"), "`results_key=''` is not a key"),
        (("results", "a..b", "id"), "`abundance_key='a..b'` is not a key"),
        (("results", "depth", "depth"), "name the same place"),
        (("results", "stats.depth", "stats"), "name the same place"),
    ],
)
def test_impossible_keys_are_refused(keys, useful):
    with pytest.raises(ValueError, match=useful):
        check_keys(*keys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            b"Name\tLength\tEffectiveLength\tTPM\tNumReads\na\t9\t7\t1.5\t10\nb\t5\t3\t0\n",
            "text of 5 columns .*Expected 5 columns, got 4",
        ),
        (b"a\t12\nb\t0\n__no_feature\n", "text of 2 columns .*Expected 2 columns, got 1"),
    ],
)
def test_a_tool_s_sample_with_a_short_line_is_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, text, name="quant.sf")
