from __future__ import annotations

from pathlib import Path

import numpy as np

from cagdask import storage
from cagdask.factors import drawing
from cagdask.factors.matrix import Matrix
from cagdask.factors.naming import top_names
from tests.result_store import write_result_store


def test_every_component_is_drawn_or_the_rest_is_said() -> None:
    for k, said in ((14, "CAGs with the largest scores in each component"), (30, "the first 24 of 30")):
        top = [[(f"gene {i}", 1.0), ("b", 0.5)] for i in range(k)]
        figure = drawing.draw_top(top, "CAGs")
        panels = [axes for axes in figure.axes if axes.axison]
        assert len(panels) == min(k, 24)
        assert said in figure.get_suptitle()
        assert [text.get_text() for text in panels[3].get_yticklabels()] == ["gene 3", "b"]
        assert [bar.get_width() for bar in panels[3].patches] == [1.0, 0.5]


def test_numbers_of_components_have_whole_ticks_and_the_recommended_one_is_marked() -> None:
    figure = drawing.draw_selection([2, 3, 4], [0.9, 0.8, 0.5], [0.4, 0.3, 0.2], 3)
    left, right = figure.axes
    assert left.get_xticks().tolist() == [2, 3, 4]
    assert left.lines[0].get_ydata().tolist() == [0.9, 0.8, 0.5]
    assert right.lines[0].get_ydata().tolist() == [0.4, 0.3, 0.2]
    assert left.lines[1].get_xdata() == [3, 3]
    loadings = drawing.draw_loadings(np.eye(5, dtype=np.float32), np.eye(5, dtype=np.float32), "genes")
    assert all(tick == int(tick) for axes in loadings.axes[:2] for tick in axes.get_xticks())


def test_cags_are_named_with_what_is_known_of_them(tmp_path: Path) -> None:
    url = write_result_store(str(tmp_path / "cags.zarr"), [0, 0, 1, 2])
    group = storage.open_group(url, writable=True)
    storage.write_array(group, "cag_taxonomy", np.array(["k__B;g__Blautia", "", "k__B;g__"]), dims=("cag",))
    storage.finish_group(group)
    matrix = Matrix(url, "cag_abundance", 3, 4, 3, None, "sample_id", "sample", "")
    assert top_names(matrix, [[("2", 1.0), ("0", 0.5)]]) == [[("CAG 2 k__B", 1.0), ("CAG 0 g__Blautia", 0.5)]]


def test_genes_are_named_with_their_symbols(tmp_path: Path) -> None:
    group = storage.create_group(str(tmp_path / "store.zarr"), {})
    storage.write_array(group, "gene_id", np.array(["a", "b"]), dims=("gene",))
    storage.write_array(group, "gene_symbol", np.array(["ADA", ""]), dims=("gene",))
    storage.finish_group(group)
    matrix = Matrix(str(tmp_path / "store.zarr"), "abundance", 2, 4, 2, "gene_id", "sample_id", "sample", "")
    assert top_names(matrix, [[("b", 1.0)], [("a", 0.5)]]) == [[("b", 1.0)], [("a ADA", 0.5)]]
