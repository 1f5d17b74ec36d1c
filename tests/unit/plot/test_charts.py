from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cagdask
from cagdask.cli.plot import NAMES, OTHER_NAMES
from cagdask.errors import StoreError
from cagdask.plot import OTHER_PLOTS, PLOTS, save
from cagdask.plot.samples import binned, categories, coloring_columns, largest_over_samples
from tests.result_store import write_result_store


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("plots")
    write_result_store(str(folder / "cags.zarr"), [0] * 9 + [1] * 4 + [2] * 2 + [3, 4, 5, -1], n_samples=12)
    return str(folder)


def test_the_command_knows_every_picture() -> None:
    assert tuple(PLOTS) == NAMES
    assert tuple(OTHER_PLOTS) == OTHER_NAMES


@pytest.mark.parametrize("name", [name for name in PLOTS if name not in ("error-rate", "roles", "stability")])
def test_every_picture_is_drawn_with_its_axis_titles(result: str, name: str, tmp_path: Path) -> None:
    where = save(PLOTS[name](result), str(tmp_path / "a.svg"))
    text = Path(where).read_text()
    title = {
        "composition": "axis 1",
        "heat-map": "CAG 0",
        "threshold-curve": "genes alone",
        "dendrogram": "distance",
    }.get(name, "CAG")
    assert title in text


def test_a_chart_is_written_as_what_its_name_says(result: str, tmp_path: Path) -> None:
    chart = cagdask.plot.sizes(result)
    begins = {"svg": b"<svg", "png": b"\x89PNG", "html": b"<!DOCTYPE html"}
    for kind, begin in begins.items():
        assert Path(save(chart, str(tmp_path / f"a.{kind}"))).read_bytes().startswith(begin)
    with pytest.raises(ValueError, match=r"a\.pdf: ends in none of \.svg, \.png, \.html"):
        save(chart, str(tmp_path / "a.pdf"))
    with pytest.raises(StoreError, match="already there"):
        save(chart, str(tmp_path / "a.svg"), overwrite=False)


def test_samples_are_colored_by_a_column_that_exists(result: str) -> None:
    ds = cagdask.open_dataset(f"{result}/cags.zarr").load()
    ds["sample_site"] = ("sample", np.repeat(["gut", "soil"], 6))
    assert "gut" in cagdask.plot.composition(ds, color_by="site").to_json()
    assert "grouped by site" in cagdask.plot.heat_map(ds, group_by="site").to_json()
    with pytest.raises(ValueError, match="`color_by` is 'sit'; the samples of this result have these columns: site"):
        cagdask.plot.composition(ds, color_by="sit")


def test_columns_are_averaged_into_few() -> None:
    values, names = binned(np.arange(1000.0)[None], [f"s{i}" for i in range(1000)])
    assert values.shape[1] == len(names) <= 160
    assert names[0] == "s0 … s6"
    assert values[0, 0] == np.arange(7).mean()


def test_the_rarest_of_many_categories_are_one() -> None:
    words = categories([*"aabbccddeeffgg", "h", "i", None])
    assert set(words) == {*"abcdefg", "other"}
    assert list(words[-3:]) == ["other"] * 3


def test_logarithms_are_drawn_between_the_least_and_the_largest_of_their_row(result: str) -> None:
    ds = cagdask.open_dataset(f"{result}/cags.zarr").load()
    ds["cag_abundance"][:] = ds["cag_abundance"] + 5
    values = ds["cag_abundance"].values[:3].astype(float)
    np.testing.assert_allclose(largest_over_samples(ds).share, values / values.max(1, keepdims=True))
    ds.attrs["parameters"] = '{"normalization": "none"}'
    low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
    np.testing.assert_allclose(np.sqrt(largest_over_samples(ds).share), (values - low) / (high - low))


def test_columns_that_are_mostly_one_color_do_not_color_samples() -> None:
    subject = [f"p{i // 2}" for i in range(40)]
    table = pd.DataFrame({"subject": subject, "site": ["gut", "soil"] * 20, "age": np.linspace(1, 9, 40)})
    assert coloring_columns(table) == ["site", "age"]


def test_whole_numbers_with_gaps_are_written_as_such() -> None:
    assert set(categories([1.0, 2.0, None])) == {"1", "2", "missing"}
