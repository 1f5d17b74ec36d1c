"""The explorer in a real browser: a gene is found, its CAG opened, cut, and compared."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import cagdask
from cagdask.simulation.writing import simulate_store
from tests.inline_runner import InlineRunner

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("panel")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("explored")
    simulate_store(str(folder / "cohort.zarr"), n_genes=400, n_samples=25, seed=2)
    cagdask.find_cags(
        str(folder / "cohort.zarr"),
        max_dist=0.4,
        refine="none",
        output=str(folder / "cags.zarr"),
        client=InlineRunner(),
    )
    return str(folder)


@pytest.fixture(scope="module")
def served(result: str) -> Iterator[str]:
    command = [sys.executable, "-m", "cagdask", "explore", result, "--port", "0", "--no-show"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            found = next(m for line in process.stderr if (m := re.search(r"http://localhost:\d+/", line)))
            yield found[0]
        finally:
            process.terminate()
            process.wait(20)


def test_a_gene_leads_to_its_cag_and_what_it_falls_into(served: str, result: str) -> None:
    ds = cagdask.open_dataset(f"{result}/cags.zarr")
    gene = str(ds.gene_id.values[ds.gene_cag.values == 3][0])
    requests: list[str] = []
    complaints: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page: Any = browser.new_page()
        page.on("request", lambda asked: requests.append(asked.url))
        page.on("pageerror", lambda err: complaints.append(str(err)))
        page.goto(served)
        page.wait_for_selector(f"text=/CAG 0: {int(ds.cag_size[0])} genes/", timeout=60_000)
        page.type("input[placeholder^='name']", gene)
        page.click(f".tabulator-cell:has-text('{gene}')")
        page.wait_for_selector(f"text=/CAG 3: {int(ds.cag_size[3])} genes/")
        page.click("text=Most similar CAGs")
        page.wait_for_selector("text=similarity")
        page.click("text=Other thresholds")
        page.wait_for_selector("text=/cagdask cut .* --max-dist 0.4/")
        browser.close()
    assert complaints == []
    assert all(url.startswith((served, served.replace("http", "ws"), "data:", "blob:")) for url in requests)


def test_another_address_asks_for_a_password(result: str) -> None:
    from cagdask.explore.app import explore

    server = explore(result, address="127.0.0.2", block=False)
    try:
        assert len(server.password) >= 16
    finally:
        server.stop()
    with pytest.raises(cagdask.errors.StoreError):
        explore(f"{result}/nothing.zarr", block=False)
