"""Answers of finished tasks: kept also of a stage that fails, taken only for the same arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cagdask import storage
from cagdask.compute.finished_tasks import Answers

ITEMS = [("a", 1), ("b", 2), ("c", 3)]


def test_answers_are_found_by_place_and_arguments(tmp_path: Path) -> None:
    with Answers(str(tmp_path / "done")) as answers:
        assert answers.found(ITEMS) == {}
        answers.keep(0, ITEMS[0], {"n": 1}, 0.5)
        answers.keep(2, ITEMS[2], None, 0.5)
    with Answers(str(tmp_path / "done")) as answers:
        assert answers.found(ITEMS) == {0: {"n": 1}, 2: None}
        assert answers.found([("a", 7), *ITEMS[1:]]) == {2: None}
        assert answers.found(ITEMS[:1]) == {0: {"n": 1}}


def test_a_stage_that_fails_keeps_what_was_finished(tmp_path: Path) -> None:
    def fail() -> None:
        with Answers(str(tmp_path)) as answers:
            for i in range(40):
                answers.keep(i, (i,), i, 0.5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with Answers(str(tmp_path)) as answers:
        assert answers.found([(i,) for i in range(40)]) == {i: i for i in range(40)}


def test_an_answer_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "done").write_text("in the way")
    answers = Answers(str(tmp_path / "done"))
    answers.keep(0, (0,), 0, 0.5)
    with pytest.raises(OSError, match="done"):
        answers.__exit__(None, None, None)


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Answers(None) as answers:
        answers.keep(0, (0,), 0, 0.5)
        assert answers.found([(0,)]) == {}
    assert list(tmp_path.iterdir()) == []


def test_requests_do_not_grow_with_tasks_that_are_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = storage.read_json
    monkeypatch.setattr(storage, "read_json", lambda url: read.append(url) or real(url))
    with Answers(str(tmp_path)) as answers:
        answers.keep(3, (3,), "x", 0.5)
    with Answers(str(tmp_path)) as answers:
        assert answers.found([(i,) for i in range(1000)]) == {3: "x"}
    assert len(read) == 1
    assert json.loads((tmp_path / "3.json").read_text())["result"] == "x"
