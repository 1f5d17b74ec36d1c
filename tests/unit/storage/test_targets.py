"""Work folders of finished targets that are deleted while the next steps run."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cagdask import storage
from cagdask.errors import StoreError
from cagdask.storage import targets


def _finished(target: Path) -> None:
    folder, _ = storage.begin_work(str(target), {"command": "test"})
    Path(folder, "some").mkdir()
    Path(folder, "some", "file").touch()
    storage.end_work(str(target))


def test_work_folders_are_gone_at_the_end_of_the_block(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    _finished(target)
    assert not list(tmp_path.iterdir())
    with storage.removals_beside():
        _finished(target)
    assert not list(tmp_path.iterdir())
    _finished(target)  # which is not locked any more


def test_a_target_stays_locked_while_its_work_folder_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, begun, go_on = str(tmp_path / "a.zarr"), threading.Event(), threading.Event()
    refused: list[BaseException] = []
    usual = targets._remove_work

    def remove_work(of: str) -> None:
        begun.set()
        assert go_on.wait(10)
        usual(of)

    def another() -> None:
        try:
            storage.begin_work(target, {"command": "another"})
        except StoreError as err:
            refused.append(err)

    monkeypatch.setattr(targets, "_remove_work", remove_work)
    with storage.removals_beside():
        _finished(Path(target))
        assert begun.wait(10)
        assert not Path(targets.work_folder(target), "recipe.json").exists()  # nobody resumes from it
        thread = threading.Thread(target=another)
        thread.start()
        thread.join()
        go_on.set()
    assert "another run is writing it" in str(refused[0])
    assert not list(tmp_path.iterdir())


def test_what_can_not_be_deleted_is_said_at_the_end_of_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(of: str) -> None:
        raise PermissionError(of)

    monkeypatch.setattr(targets, "_remove_work", refuse)
    with pytest.raises(PermissionError), storage.removals_beside():
        _finished(tmp_path / "a.zarr")
    monkeypatch.undo()
    targets._remove_work(str(tmp_path / "a.zarr"))
