from __future__ import annotations

from pathlib import Path

import numpy as np

import cagdask
from tests.conftest import MakeStore
from tests.result_store import write_result_store


def test_a_result_says_what_matters_as_text_and_as_html(tmp_path: Path) -> None:
    url = write_result_store(str(tmp_path / "cags.zarr"), [0] * 3 + [1] * 2 + [2], n_samples=4)
    found = cagdask.summary(url)
    assert "form 2 groups of two genes or more, which hold 5 genes" in repr(found)
    assert "! Only 4 samples" in repr(found)
    html = found._repr_html_()
    assert "<th>genes</th>" in html
    assert "<td>0</td><td>3</td>" in html
    ds = cagdask.open_dataset(url).load()
    ds["sample_site"] = ("sample", np.array(["gut", "soil"] * 2))
    assert "Known of the samples: site." in repr(cagdask.summary(ds))


def test_names_are_text_in_html(tmp_path: Path) -> None:
    ds = cagdask.open_dataset(write_result_store(str(tmp_path / "cags.zarr"), [0, 0, 1])).load()
    ds["cag_taxonomy"] = ("cag", np.array(["<b>x</b>", "y"]))
    assert "<b>x</b>" not in cagdask.summary(ds)._repr_html_()
    assert "&lt;b&gt;x&lt;/b&gt;" in cagdask.summary(ds)._repr_html_()


def test_a_store_says_its_size(abundance_store: MakeStore) -> None:
    assert "2 genes × 3 samples; abundance" in repr(cagdask.summary(abundance_store(np.ones((2, 3)))))
