from __future__ import annotations

import json
import os
import pty
import re
import select
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from cagdask import analogies, cli, similar, similar_pairs
from tests.vector_store import write_vectors

IDS = [f"ENSG0000000{i:04d}" for i in range(30)]
SYMBOLS = [f"SYM{i}" if i % 3 else "" for i in range(30)]
TEXTS = [f"gene | number {i}" if i % 2 else "" for i in range(30)]


@pytest.fixture
def store(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    rows[29] = 0
    return write_vectors(str(tmp_path / "v.zarr"), rows, IDS, symbols=SYMBOLS, descriptions=TEXTS)


def cagdask(*arguments) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def as_json(*arguments):
    result = cagdask(*arguments, "--json", "--no-progress")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# -- answers ---------------------------------------------------------------------------------------------------------


def test_similar_prints_what_the_library_finds(store):
    table = similar(store, IDS[1], k=3)
    found = as_json("similar", store, IDS[1], "-k", "3")
    assert found["neighbors"] == table.to_dict("records")
    assert {"gene", "similarity"} <= set(found["neighbors"][0])
    assert found["n_without_direction"] == 1
    text = cagdask("similar", store, "SYM1", "-k", "3", "--no-progress").stdout
    assert text.splitlines()[0] == "Most like SYM1 by cosine"
    assert re.search(rf"1 +{table.gene[0]} +{table.similarity[0]:.6f}", text)
    assert "1 vectors without direction were left out." in text


def test_missing_descriptions_are_printed_as_a_dash(store):
    text = cagdask("similar", store, IDS[1], "-k", "28", "--no-progress").stdout
    line = next(line for line in text.splitlines() if IDS[6] in line)
    assert line.split()[-2:] == ["–", "–"]


def test_analogy_prints_what_the_library_finds(store):
    found = as_json("analogy", store, IDS[1], IDS[2], "-k", "4")
    assert found["pairs"] == analogies(store, IDS[1], IDS[2], k=4).to_dict("records")
    assert list(found["pairs"][0]) == ["gene_a", "gene_b", "gene_c", "gene_d", "similarity", "certified"]
    assert found["pairs"][0]["certified"] is True
    assert (found["n_zero"], found["n_duplicates"]) == (1, 0)
    given = as_json("analogy", store, IDS[1], IDS[2], "--given", IDS[3], "--method", "mul")
    assert given["pairs"] == analogies(store, IDS[1], IDS[2], given=IDS[3], method="mul").to_dict("records")


def test_every_option_of_analogy_reaches_the_search(tmp_path, store):
    (tmp_path / "some.txt").write_text("\n".join(IDS[4:20]))
    options = ["--metric", "euclidean", "--operation", "sum", "--allow-shared", "--max-sim", "0.7"]
    found = as_json("analogy", store, IDS[1], IDS[2], *options, "--candidates", tmp_path / "some.txt")
    same = {"metric": "euclidean", "operation": "sum", "shared": True, "max_sim": 0.7, "candidates": IDS[4:20]}
    assert found["pairs"] == analogies(store, IDS[1], IDS[2], **same).to_dict("records")
    free = as_json("analogy", store, IDS[1], "--free-b", "-k", "2")
    assert free["pairs"] == analogies(store, IDS[1], k=2).to_dict("records")


def test_exact_reaches_the_search_of_every_b(store, monkeypatch):
    monkeypatch.setattr("cagdask.vectors.analogies.quadruples.CORNER", 2)
    screened = as_json("analogy", store, IDS[1], "--free-b", "-k", "3")["pairs"]
    assert not all(pair["certified"] for pair in screened)
    found = as_json("analogy", store, IDS[1], "--free-b", "-k", "3", "--exact", "--workers", "1")["pairs"]
    assert all(pair["certified"] for pair in found)
    assert found[2]["similarity"] >= screened[2]["similarity"]


def test_top_pairs_come_with_the_histogram(store):
    table = similar_pairs(store, 5, metric="correlation")
    found = as_json("similar", store, "--top-pairs", "5", "--metric", "correlation")
    assert found["pairs"] == table.to_dict("records")
    assert found["summary"] == table.attrs["summary"]


def test_several_genes_are_joined_or_contrasted(store):
    found = as_json("similar", store, IDS[1], IDS[2], "--combine", "contrast")
    assert found["neighbors"] == similar(store, [IDS[1], IDS[2]], combine="contrast").to_dict("records")


def test_a_file_of_questions_gives_the_answer_to_each(tmp_path, store):
    (tmp_path / "q.txt").write_text(f"{IDS[1]}\n\n{IDS[2]}\t{IDS[3]}\n")
    found = as_json("similar", store, "--query-file", tmp_path / "q.txt")["queries"]
    assert [query["genes"] for query in found] == [[IDS[1]], [IDS[2], IDS[3]]]
    assert found[1]["neighbors"] == similar(store, IDS[2:4]).to_dict("records")
    (tmp_path / "p.txt").write_text(f"{IDS[1]} {IDS[2]}\n{IDS[1]} {IDS[2]} {IDS[3]}\n{IDS[5]}\n")
    found = as_json("analogy", store, "--query-file", tmp_path / "p.txt", "-k", "2")["queries"]
    assert found[0]["pairs"] == analogies(store, IDS[1], IDS[2], k=2).to_dict("records")
    assert found[1]["pairs"] == analogies(store, IDS[1], IDS[2], given=IDS[3], k=2).to_dict("records")
    assert found[2]["pairs"] == analogies(store, IDS[5], k=2).to_dict("records")


def test_descriptions_may_come_with_the_question(tmp_path, store):
    (tmp_path / "d.tsv").write_text(f"id\tsymbol\tdescription\n{IDS[4]}\tFOUR\tthe fourth\n")
    found = as_json("similar", store, "FOUR", "-k", "29", "--descriptions", tmp_path / "d.tsv")
    assert {entry["symbol"] for entry in found["neighbors"]} == {""}
    other = as_json("similar", store, IDS[1], "-k", "29", "--descriptions", tmp_path / "d.tsv")["neighbors"]
    assert next(e for e in other if e["gene"] == IDS[4])["description"] == "the fourth"


# -- files -----------------------------------------------------------------------------------------------------------


def test_answers_are_written_in_every_format(tmp_path, store):
    files = [tmp_path / f"x.{suffix}" for suffix in ("md", "tsv", "json", "parquet")]
    outputs = [word for file in files for word in ("--output", file)]
    printed = as_json("similar", store, IDS[1], *outputs)
    table = similar(store, IDS[1])
    markdown = files[0].read_text()
    assert (
        f"| [{table.gene[0]}](https://www.proteinatlas.org/{table.gene[0]}) | {table.similarity[0]:.6f} |" in markdown
    )
    assert "gene \\| number" in markdown
    assert "| – |" in markdown
    read = pd.read_csv(files[1], sep="\t", keep_default_na=False)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    assert json.loads(files[2].read_text()) | {"files": [str(f) for f in files]} == printed
    pd.testing.assert_frame_equal(pd.read_parquet(files[3]), table, check_dtype=False)


def test_links_follow_the_template(tmp_path, store):
    cagdask("similar", store, IDS[1], "--output", tmp_path / "a.md", "--link", "https://example.org/?g={gene}")
    assert "](https://example.org/?g=ENSG0000000" in (tmp_path / "a.md").read_text()
    cagdask("similar", store, IDS[1], "--output", tmp_path / "b.md", "--link", "none")
    assert "](" not in (tmp_path / "b.md").read_text()
    words = write_vectors(str(tmp_path / "w.zarr"), np.eye(3) + 1, ["one", "two", "three"])
    cagdask("similar", words, "one", "--output", tmp_path / "c.md")
    assert "](" not in (tmp_path / "c.md").read_text()


def test_many_answers_share_a_file_with_a_column_for_the_question(tmp_path, store):
    (tmp_path / "p.txt").write_text(f"{IDS[1]} {IDS[2]}\n{IDS[3]} {IDS[4]}\n")
    result = cagdask(
        "analogy", store, "--query-file", tmp_path / "p.txt", "-k", "3", "--output", tmp_path / "p.parquet"
    )
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert len(table) == 6
    assert table["query"].nunique() == 2
    assert {"symbol_c", "description_d"} <= set(table.columns)


@pytest.mark.parametrize(
    "arguments",
    [["similar", IDS[1]], ["analogy", IDS[1], IDS[2]], ["analogy", IDS[1], IDS[2], "--given", IDS[3]],
     ["similar", "--top-pairs", "9"]],
)  # fmt: skip
def test_pictures_are_drawn_the_same_each_time(tmp_path, store, arguments):
    drawn = []
    for name in ("a.png", "b.png"):
        result = cagdask(arguments[0], store, *arguments[1:], "--picture", tmp_path / name)
        assert result.exit_code == 0, result.output
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0][:8] == b"\x89PNG\r\n\x1a\n"
    assert drawn[0] == drawn[1]


# -- what can not be asked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["similar", "STORE"], "Ask in one way of GENE, --query-file, --top-pairs, --interactive."),
        (["similar", "STORE", "g", "--top-pairs", "3"], "not GENE and --top-pairs"),
        (["similar", "STORE", "g", "-k", "0"], "0 is not in the range"),
        (["similar", "STORE", "--interactive", "--json"], "--interactive prints tables"),
        (["similar", "STORE", "g", "--metric", "l2"], "'l2' is not one of"),
        (["similar", "STORE", "--top-pairs", "3", "-k", "4"], "-k is for questions about genes, not for --top-pairs"),
        (["similar", "STORE", "--top-pairs", "3", "--combine", "joint"], "--combine is for questions about genes"),
        (["similar", "STORE", "g", "--output", "a.tsv", "--link", "none"], "--link is for Markdown"),
        (["analogy", "STORE", "--interactive", "--free-b"], "--free-b goes with A; in a file or at the prompt"),
        (["analogy", "STORE"], "Ask in one way of A"),
        (["analogy", "STORE", "a"], "Give B, or --free-b"),
        (["analogy", "STORE", "a", "b", "--free-b"], "leave B out"),
        (["analogy", "STORE", "a", "b", "--max-sim", "3"], "3.0 is not in the range"),
    ],
)
def test_misuse_ends_with_2(arguments, message):
    result = cagdask(*arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["similar", "STORE", "$%&!"], r"no gene named '\$%&!'. Did you mean \S+, \S+, \S+\? The store knows"),
        (["similar", "STORE", "SYM"], r"has no gene named 'SYM'. Did you mean SYM\d, SYM\d+, SYM\d+\? The store knows"),
        (["similar", "nowhere.zarr", "g"], "nowhere.zarr"),
        (["similar", "STORE", IDS[1], "--output", "TMP/x.txt"], "Answers are written as .md, .tsv, .json, .parquet"),
        (["similar", "STORE", IDS[1], "--output", "TMP/there.md"], "is already there. Add --overwrite"),
        (["similar", "STORE", IDS[1], "--picture", "TMP/there.png"], "is already there. Add --overwrite"),
        (["similar", "STORE", IDS[1], "--picture", "TMP/x.pdf"], "pictures are .png"),
        (["similar", "STORE", IDS[1], "--output", "TMP/x.md", "--link", "https://x"], "has no {gene} in it"),
        (["similar", "STORE", "--query-file", "TMP/none.txt"], "no such file of questions"),
        (["similar", "STORE", "--query-file", "TMP/empty.txt"], "holds no questions"),
        (["similar", "STORE", "--query-file", "TMP/there.png"], "there.png: is no text .* Save it as UTF-8"),
        (["similar", "STORE", "--top-pairs", "3", "--metric", "euclidean"], "not by 'euclidean'"),
        (["similar", "STORE", IDS[1], "--normalization", "sum"], "can not be normalized by sum"),
        (["analogy", "STORE", IDS[1], IDS[1]], f"A and B are both '{IDS[1]}'"),
        (["analogy", "STORE", IDS[1], "SYM1"], "two of these names are one gene"),
        (["analogy", "STORE", IDS[1], IDS[29]], r"is zero: it has no direction"),
        (["analogy", "STORE", IDS[1], IDS[2], "--candidates", "TMP/none.txt"], "no such file of candidates"),
        (["analogy", "STORE", "--query-file", "TMP/long.txt"], "line 1 has 4 genes; a question has at most 3"),
    ],
)  # fmt: skip
def test_failures_are_one_line_and_write_nothing(tmp_path, store, arguments, message):
    (tmp_path / "there.md").write_text("kept")
    (tmp_path / "there.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "long.txt").write_text("a b c d\n")
    before = sorted(os.listdir(tmp_path))
    words = [word.replace("STORE", store).replace("TMP", str(tmp_path)) for word in arguments]
    result = cagdask(*words, "--no-progress")
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("cagdask: error")]
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "there.md").read_text() == "kept"


def test_what_is_there_is_replaced_when_told_to(tmp_path, store):
    (tmp_path / "there.md").write_text("old")
    assert cagdask("similar", store, IDS[1], "--output", tmp_path / "there.md", "--overwrite").exit_code == 0
    assert "Most like" in (tmp_path / "there.md").read_text()


# -- the prompt ------------------------------------------------------------------------------------------------------


class Terminal:
    """A command in a pseudo-terminal of its own, driven by keys."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ |= {"TERM": "dumb", "INPUTRC": "/dev/null", "COLUMNS": "200"}
            os.execv(sys.executable, [sys.executable, "-m", "cagdask", *arguments])
        self.seen = ""

    def until(self, pattern: str, seconds: float = 60) -> str:
        """What is printed until the pattern comes."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{pattern!r} did not come; this did: {self.seen!r}")
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError as err:
                raise AssertionError(f"the command ended without {pattern!r}: {self.seen!r}") from err
        before, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return before

    def keys(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def end(self) -> int:
        """Exit code, once the command has ended."""
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "posix_openpt") and sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_prompt_completes_explains_remembers_and_quits(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(6, 3))
    store = write_vectors(str(tmp_path / "v.zarr"), rows, ["CD3E", "CD3D", "CD8A", "MKI67", "TOP2A", "NUF2"])
    best = similar(store, "MKI67").gene[0]
    terminal = Terminal("similar", store, "--interactive")
    terminal.until("Tab completes, quit ends")
    terminal.until("> ")
    terminal.keys("MK\t\r")  # completed
    printed = terminal.until("\n> ")
    assert "MKI67" in printed
    assert re.search(rf"1 +{best} ", printed)
    terminal.keys("MKI76\r")  # did you mean
    assert "has no gene named 'MKI76'. Did you mean MKI67" in terminal.until("\n> ")
    terminal.keys("\x1b[A\x1b[A\r")  # history: the line before the last
    assert re.search(rf"1 +{best} ", terminal.until("\n> "))
    terminal.keys("CD3E CD3D\r")
    assert "Most like CD3E, CD3D together" in terminal.until("\n> ")
    terminal.keys("quit\r")
    assert terminal.end() == 0


def test_the_prompt_of_analogy_takes_lines_from_a_pipe_too(store):
    lines = f"{IDS[1]} {IDS[2]}\n{IDS[1]} {IDS[2]} {IDS[3]}\n{IDS[1]}\n{IDS[1]} {IDS[1]}\na b c d\n'\nhelp\n"
    result = CliRunner().invoke(cli.main, ["analogy", store, "--interactive", "-k", "2"], input=lines)
    assert result.exit_code == 0, result.output
    for expected in (
        f"Most like {IDS[1]} - {IDS[2]} by cosine",
        f"{IDS[1]} is to {IDS[2]} as {IDS[3]} is to",
        f"Most like {IDS[1]} - ? by cosine",
        f"A and B are both '{IDS[1]}'",
        "Type two genes, or three",
        "No closing quotation",
    ):
        assert expected in result.stdout
