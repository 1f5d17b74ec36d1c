"""Embeddings of GeneVector (nceglia/genevector, MIT), where they lie in the folder that CAGDASK_REAL_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import cagdask
from tests.inline_runner import InlineRunner

FOLDER = Path(os.environ.get("CAGDASK_REAL_DATA", ""), "08_gene_embeddings")

pytestmark = pytest.mark.skipif(
    "CAGDASK_REAL_DATA" not in os.environ or not FOLDER.is_dir(),
    reason="CAGDASK_REAL_DATA names no folder of embeddings",
)


@pytest.mark.parametrize(
    ("name", "gene", "expected"),
    [
        ("tica", "CD3E", ["CD2", "IL32", "CD3D", "LCK"]),
        ("tica", "NKG7", ["CCL5", "GZMA", "GZMB"]),
        ("fitness_X", "MKI67", ["TOP2A", "NUF2", "SMC4"]),
    ],
)
def test_known_neighbors_are_found_with_the_cosines_of_gensim(tmp_path, name, gene, expected):
    gensim = pytest.importorskip("gensim.models")
    source = str(FOLDER / f"{name}.vec.gz")
    cagdask.ingest(source, store=str(tmp_path / "v.zarr"), kind="embedding", client=InlineRunner())
    found = cagdask.similar(str(tmp_path / "v.zarr"), gene)
    vectors = gensim.KeyedVectors.load_word2vec_format(source)
    assert set(expected) <= set(found.gene)
    assert found.gene.tolist() == [other for other, _ in vectors.most_similar(gene)]
    assert found.similarity.tolist() == pytest.approx([cosine for _, cosine in vectors.most_similar(gene)], abs=2e-6)
