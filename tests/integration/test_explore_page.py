"""The explorer in a real browser: a gene is found, its CAG opened, cut, and compared; nothing of a store is run."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cagdask
from cagdask.explore.session import Session
from cagdask.simulation.writing import simulate_store
from tests.inline_runner import InlineRunner
from tests.million import write_million
from tests.result_store import write_result_store
from tests.s3_server import S3Server

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("panel")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
DRAWN = """
const forget = (canvas) => window.drawn.set(canvas, [])
window.drawn = new Map()
const {fillText, clearRect} = CanvasRenderingContext2D.prototype
CanvasRenderingContext2D.prototype.clearRect = function(...box) {
  forget(this.canvas)
  return clearRect.apply(this, box)
}
CanvasRenderingContext2D.prototype.fillText = function(text, x, y, ...more) {
  const size = this.measureText(text), by = this.getTransform()
  const corners = [[-size.actualBoundingBoxLeft, -size.actualBoundingBoxAscent],
                   [size.actualBoundingBoxRight, size.actualBoundingBoxDescent]]
    .map(([dx, dy]) => by.transformPoint(new DOMPoint(x + dx, y + dy)))
  const [xs, ys] = [corners.map((p) => p.x), corners.map((p) => p.y)]
  if (!window.drawn.has(this.canvas)) forget(this.canvas)
  window.drawn.get(this.canvas).push({text, box: {left: Math.min(...xs), right: Math.max(...xs),
    top: Math.min(...ys), bottom: Math.max(...ys)}})
  return fillText.call(this, text, x, y, ...more)
}
"""
"""Notes what is written on each canvas, and where."""
OVERLAPS = """() => {
  const boxes = []
  const clipped = (node, box) => {
    for (let e = node.parentNode; e; e = e.parentNode || e.host) {
      if (!(e instanceof Element) || getComputedStyle(e).overflow === "visible") continue
      const edge = e.getBoundingClientRect()
      box = {left: Math.max(box.left, edge.left), right: Math.min(box.right, edge.right),
             top: Math.max(box.top, edge.top), bottom: Math.min(box.bottom, edge.bottom)}
    }
    return box
  }
  const walk = (root) => {
    for (const node of root.childNodes) {
      if (node.nodeType === 3 && node.textContent.trim() && root instanceof Element) {
        if (["STYLE", "SCRIPT", "OPTION"].includes(root.tagName)) continue
        if (!root.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue
        const range = document.createRange()
        range.selectNodeContents(node)
        const text = node.textContent
        for (const box of range.getClientRects()) boxes.push({text, on: node, box: clipped(node, box)})
      }
      if (node.shadowRoot) walk(node.shadowRoot)
      walk(node)
    }
  }
  walk(document.body)
  for (const [canvas, texts] of window.drawn) {
    if (!canvas.isConnected || !canvas.checkVisibility({visibilityProperty: true})) continue
    texts.forEach(({text, box}) => boxes.push({text, on: canvas, box}))
  }
  const wrong = []
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
    const [first, second] = [a.on instanceof HTMLCanvasElement, b.on instanceof HTMLCanvasElement]
    if (first !== second || (first ? a.on !== b.on : a.on === b.on)) return
    const x = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left)
    const y = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top)
    if (x > 1 && y > 2) wrong.push([a.text, b.text])
  }))
  return wrong
}"""
"""Pairs of words that lie on each other: those of the page, and those on each canvas."""
HOSTILE = "<img src=x onerror=window.stolen=1>"
CELL = ".tabulator-cell:has-text('{}')"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run's folder of 400 genes; names of genes, samples and groups of samples try to be HTML."""
    folder = tmp_path_factory.mktemp("explored")
    simulate_store(str(folder / "plain.zarr"), n_genes=400, n_samples=25, seed=2)
    ds = cagdask.open_dataset(str(folder / "plain.zarr")).load()
    genes, samples = ds.gene_id.values.astype(object), ds.sample_id.values.astype(object)
    genes[0], samples[0] = f"gene_000{HOSTILE}", f"sample{HOSTILE}"
    diet = np.where(np.arange(25) % 2, "fiber", f"western{HOSTILE}")
    ds = ds.assign_coords(gene_id=("gene", genes.astype(str)), sample_id=("sample", samples.astype(str)))
    cagdask.save_dataset(ds.assign(sample_diet=("sample", diet)), str(folder / "abundance.zarr"))
    cagdask.find_cags(
        str(folder / "abundance.zarr"),
        max_dist=0.4,
        refine="none",
        output=str(folder / "cags.zarr"),
        client=InlineRunner(),
    )
    return str(folder)


@contextmanager
def serving(result: str) -> Iterator[tuple[str, int]]:
    """The page's address, and the process that serves it."""
    command = [sys.executable, "-m", "cagdask", "explore", result, "--port", "0", "--no-show"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            found = next(m for line in process.stderr if (m := re.search(r"http://localhost:\d+/", line)))
            yield found[0], process.pid
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def served(result: str) -> Iterator[str]:
    with serving(result) as (address, _):
        yield address


class Page:
    """A browser's page, what it asked for, and what it complained of."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = browser.new_page(**options)
        self.page.add_init_script(DRAWN)
        self.page.on("request", lambda asked: self.requests.append(asked.url))
        self.page.on("pageerror", lambda err: self.complaints.append(str(err)))
        self.page.on("console", self._hear)
        self.page.on("response", self._see)
        self.address = address
        self.page.goto(address)

    def _hear(self, said: Any) -> None:
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            self.complaints.append(said.text)

    def _see(self, response: Any) -> None:
        if response.status >= 400 and not response.url.endswith("/favicon.ico"):  # which a browser asks for by itself
            self.complaints.append(f"{response.status} {response.url}")

    def check(self) -> None:
        """Nothing went wrong, nothing of the store was run, and no other machine was asked."""
        assert self.complaints == []
        assert self.page.evaluate("window.stolen") is None
        own = (self.address, self.address.replace("http", "ws"), "data:", "blob:")
        assert [url for url in self.requests if not url.startswith(own)] == []


@contextmanager
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def test_a_gene_leads_to_its_cag_and_on(served: str, result: str, tmp_path: Path) -> None:
    ds = cagdask.open_dataset(f"{result}/cags.zarr")
    gene = str(ds.gene_id.values[ds.gene_cag.values == 3][0])
    with chromium() as browser:
        made = Page(browser, served)
        page = made.page
        page.wait_for_selector(f"text=/CAG 0: {int(ds.cag_size[0])} genes/", timeout=60_000)
        page.type("input[placeholder^='name']", gene)
        page.click(CELL.format(gene))
        page.wait_for_selector(f"text=/CAG 3: {int(ds.cag_size[3])} genes/")
        page.click("text=Most similar CAGs")
        page.wait_for_selector("text=similarity")
        page.click("text=Other thresholds")
        page.wait_for_selector("text=/cagdask cut .* --max-dist 0.4/")
        page.focus(".noUi-handle")
        for _ in range(20):
            page.keyboard.press("ArrowLeft")
        page.wait_for_selector("text=/--view split --cag 3 --max-dist 0.3[0-9]/")
        page.click("text=Similar genes")
        near = cagdask.similar(f"{result}/abundance.zarr", gene, client=InlineRunner()).gene[0]
        page.wait_for_selector(CELL.format(near))
        with page.expect_download() as downloading:
            page.locator("text=Download table >> visible=true").nth(1).click()  # the first is that of the CAG's samples
        downloading.value.save_as(tmp_path / "similar.tsv")
        made.check()
    command = [sys.executable, "-m", "cagdask", "explore", result, "--view", "similar", "--gene", gene]
    subprocess.run([*command, "--output", str(tmp_path / "command.tsv")], check=True, capture_output=True)
    assert (tmp_path / "similar.tsv").read_bytes() == (tmp_path / "command.tsv").read_bytes()


def test_names_of_a_store_are_shown_as_text(served: str) -> None:
    with chromium() as browser:
        made = Page(browser, served)
        page = made.page
        page.type("input[placeholder^='name']", "onerror")
        page.click(CELL.format("onerror"))
        page.select_option("select", "diet")
        page.wait_for_selector("text=Genes")
        page.click("text=Similar genes")
        page.wait_for_selector("text=/--view similar --gene/")
        page.click("text=Heat map")
        page.wait_for_selector("text=/--view heat-map --rows 40 --by diet/")
        page.locator(".bk-Canvas:visible").last.scroll_into_view_if_needed()
        canvas = page.locator(".bk-Canvas:visible").last.bounding_box()
        page.mouse.move(canvas["x"] + canvas["width"] / 3, canvas["y"] + canvas["height"] / 2)  # a tooltip
        page.wait_for_timeout(300)
        made.check()


def test_the_map_zooms_and_opens_a_cag(served: str, result: str) -> None:
    with chromium() as browser:
        made = Page(browser, served)
        page = made.page
        page.wait_for_selector("text=/CAG 0: /", timeout=60_000)
        page.click("text=/^Map$/")
        page.wait_for_selector("text=/--view map/", timeout=60_000)
        page.locator(".bk-Canvas:visible").last.scroll_into_view_if_needed()
        canvas = page.locator(".bk-Canvas:visible").last.bounding_box()
        x, y = canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2
        page.mouse.move(x, y)
        page.mouse.wheel(0, -300)
        page.wait_for_timeout(500)
        places = Session(result)
        places.cag_map(wait=True)
        page.mouse.click(x, y)  # the middle of the map, which zooming about it does not move
        nearest = int(np.argmin((places.cag_map().place ** 2).sum(axis=1)))
        page.wait_for_selector(f"text=/^CAG {nearest}: /")
        made.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_fits_and_says_what_everything_is(served: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with chromium() as browser:
        made = Page(browser, served, viewport={"width": 390, "height": 800}, color_scheme=scheme)
        page = made.page
        page.wait_for_selector("text=/--view members/", timeout=60_000)
        page.click("text=/^Other thresholds$/")
        page.wait_for_selector("text=/--view split/")
        page.wait_for_timeout(1_500)  # names of widgets are put in once a second
        found = axe.Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(OVERLAPS) == []
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert ("18, 18, 18" in ground) == (scheme == "dark"), "as the screen is"
        page.click("text=/(Light|Dark) page/")
        page.wait_for_selector("text=/--view members/")
        assert ground != page.evaluate("getComputedStyle(document.documentElement).backgroundColor"), "the other one"
        made.check()


LONG = "cohort_with_a_very_long_name|sample_that_was_taken_at_home|replicate_of_day_"
"""With a number of four digits, an id of 80 characters."""
RESULTS = {
    "one CAG, one sample": ([40], 1),
    "five CAGs": ([40, 20, 9, 5, 1], 6),
    "400 CAGs": ([*range(200, 100, -1), *[3] * 200, *[1] * 100], 60),
    "5,000 samples": ([30, 20, *[2] * 20], 5_000),
    "200,000 CAGs": ([*[4] * 1_000, *[1] * 199_000], 12),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", RESULTS)
def test_no_words_lie_on_others(tmp_path: Path, name: str) -> None:
    sizes, n_samples = RESULTS[name]
    labels = np.repeat(np.arange(len(sizes)), sizes).tolist()
    genes = [f"{LONG}{i:06d}" for i in range(len(labels))]
    samples = [f"{LONG}{i:04d}" for i in range(n_samples)]
    url = write_result_store(str(tmp_path / "cags.zarr"), labels, genes, samples=samples)
    ds = cagdask.open_dataset(url).load()
    groups = [f"{LONG}{i % 3:04d}" for i in range(n_samples)]
    cagdask.save_dataset(ds.assign(sample_site=("sample", groups)), str(tmp_path / "named.zarr"))
    with serving(str(tmp_path / "named.zarr")) as (address, _), chromium() as browser:
        for width in (1280, 390):
            made = Page(browser, address, viewport={"width": width, "height": 900})
            page = made.page
            page.wait_for_selector("text=/--view members/", timeout=120_000)
            for by in ("nothing", "site"):
                page.select_option("select", by)
                page.wait_for_timeout(500)
                for tab in ("Genes", "Most similar CAGs", "Other thresholds", "Heat map", "Map", "Similar genes"):
                    page.click(f"text=/^{tab}$/")
                    page.wait_for_timeout(700)
                    assert page.evaluate(OVERLAPS) == [], (width, by, tab)
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, (by, tab)
            made.check()
            page.close()


def test_words_that_lie_on_others_are_found() -> None:
    """What looks for them finds them, so that it is no wonder if there are none."""
    with chromium() as browser:
        page = browser.new_page()
        page.add_init_script(DRAWN)
        page.goto("data:text/html,<p>one</p><p style='margin-top:-1.9em'>two</p><canvas></canvas>")
        assert page.evaluate(OVERLAPS) == [["one", "two"]]
        page.evaluate("const c = document.querySelector('canvas').getContext('2d'); window.c = c")
        page.evaluate("c.font = '20px serif'; c.fillText('three', 50, 50); c.fillText('four', 55, 52)")
        assert page.evaluate(OVERLAPS) == [["one", "two"], ["three", "four"]]
        page.evaluate("c.clearRect(0, 0, 300, 150)")
        assert page.evaluate(OVERLAPS) == [["one", "two"]]


def test_a_result_on_s3_opens_as_one_on_a_disk(result: str, s3_url: str, s3: S3Server) -> None:
    for name in ("abundance.zarr", "cags.zarr"):
        cagdask.save_dataset(cagdask.open_dataset(f"{result}/{name}"), f"{s3_url}/{name}")
    with serving(s3_url) as (address, _), chromium() as browser:
        made = Page(browser, address)
        made.page.wait_for_selector("text=/CAG 0: /", timeout=60_000)
        made.page.type("input[placeholder^='name']", "gene_010")
        made.page.click(CELL.format("gene_010"))
        made.page.click("text=Similar genes")
        made.page.wait_for_selector(f"text=/cagdask explore {re.escape(s3_url)}/")
        made.check()


def test_another_address_asks_for_a_password(result: str) -> None:
    from cagdask.explore.app import explore

    server = explore(result, address="127.0.0.2", block=False)
    try:
        assert len(server.password) >= 16
    finally:
        server.stop()
    with pytest.raises(cagdask.errors.StoreError):
        explore(f"{result}/nothing.zarr", block=False)


# -- a million genes ---------------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """The most memory that a process has held."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A result of a million genes: that of CAGDASK_MILLION_GENES, or one that is made, which takes minutes."""
    return os.environ.get("CAGDASK_MILLION_GENES") or write_million(tmp_path_factory.mktemp("million"))


SEEN = """([css, words, exact]) => {
  const found = (root) => {
    for (const one of root.querySelectorAll(css)) {
      const text = one.textContent
      const is_shown = one.checkVisibility({visibilityProperty: true})
      if (is_shown && (exact ? text === words : text.includes(words))) return true
    }
    for (const one of root.querySelectorAll("*")) if (one.shadowRoot && found(one.shadowRoot)) return true
    return false
  }
  return found(document)
}"""
"""Whether words are on the page; Playwright's own waiting looks only every 500 ms."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_genes_open_in_3_s_and_each_step_takes_half_a_second(million: str) -> None:
    label = cagdask.open_dataset(f"{million}/cags.zarr").gene_cag.values
    seconds: list[tuple[str, float, float]] = []

    def timed(name: str, step: Callable[[], Any]) -> None:
        begin, used = time.perf_counter(), cpu_seconds(pid)
        step()
        seconds.append((name, round(time.perf_counter() - begin, 2), round(cpu_seconds(pid) - used, 2)))

    with serving(million) as (address, pid), chromium() as browser:
        browser.new_page().goto("about:blank")
        begin, used = time.perf_counter(), cpu_seconds(pid)
        made = Page(browser, address)
        page = made.page
        page.set_default_timeout(120_000)

        def seen(words: str, css: str = "pre", *, exact: bool = False) -> None:
            page.wait_for_function(SEEN, arg=[css, words, exact], polling=20)

        seen("CAG 0: ")
        opened, opened_cpu = time.perf_counter() - begin, cpu_seconds(pid) - used
        page.click("text=/^Map$/")
        seen("--view map")  # all that is read in the background has been read

        def search(gene: str) -> None:
            page.fill("input[placeholder^='name']", gene)
            seen(gene, ".tabulator-cell", exact=True)

        def open_gene(gene: str) -> None:
            page.click(CELL.format(gene))
            seen(f"CAG {label[int(gene[5:])]}: ")

        def open_cag(number: int) -> None:
            box = page.locator("input[type=text].bk-input, input.bk-input[type=number]").nth(1)
            box.fill(str(number))
            box.press("Enter")
            seen(f"CAG {number}: ")

        def tab(name: str, shown: str) -> None:
            page.click(f"text=/^{name}$/")
            seen(shown)

        def slide(cag: int, step: int) -> None:
            page.focus(".noUi-handle")
            page.keyboard.press("ArrowLeft")
            seen(f"--view split --cag {cag} --max-dist {0.2 - 0.002 * step:.6g} ")

        def download(cag: int) -> None:
            with page.expect_download() as downloading:
                page.locator("text=Download table >> visible=true").last.click()
            assert downloading.value.suggested_filename == f"split-cag-{cag}.tsv"

        for step, gene in enumerate(("gene_123456", "gene_999999", "gene_000077", "gene_555555"), 1):
            cag = int(label[int(gene[5:])])
            timed("open a CAG", partial(open_cag, 1111 * step))
            timed("find a gene", partial(search, gene))
            timed("open a gene", partial(open_gene, gene))
            timed("genes", partial(tab, "Genes", f"--view members --cag {cag} "))
            timed("similar genes", partial(tab, "Similar genes", f"--view similar --gene {gene} "))
            timed("nearest CAGs", partial(tab, "Most similar CAGs", f"--view nearest --cag {cag} "))
            timed("threshold", partial(tab, "Other thresholds", f"--view split --cag {cag} "))
            timed("slide", partial(slide, cag, step))
            timed("download", partial(download, cag))
            timed("heat map", partial(tab, "Heat map", "--view heat-map"))
            timed("map", partial(tab, "Map", "--view map"))
        made.check()
        peak = peak_mib(pid)
    median = statistics.median(wall for _, wall, _ in seconds)
    median_cpu = statistics.median(used for _, _, used in seconds)
    print(f"opens in {opened:.2f} s (server {opened_cpu:.2f} CPU s), median step {median:.2f} s", end="")
    print(f" (server {median_cpu:.2f} CPU s), peak {peak:.0f} MiB; step, s, CPU s of the server:", seconds)
    assert opened <= 3
    assert median <= 0.5
    assert peak <= 1024
