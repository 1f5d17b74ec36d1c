"""The report in a real browser: what a reader clicks, and what a phone shows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cagdask
from cagdask.reports.page import render
from tests.result_store import write_result_store

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll("svg.marks text")]
    .filter((t) => t.textContent.trim() && getComputedStyle(t).opacity !== "0")
    .map((t) => ({ svg: t.closest("svg"), text: t.textContent, box: t.getBoundingClientRect() }))
    .filter((t) => t.box.width > 0);
  const wrong = [];
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
    if (a.svg !== b.svg) return;
    const x = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
    const y = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
    if (x > 1 && y > 2) wrong.push([a.text, b.text]);
  }));
  return wrong;
}"""
SMALL = """() => [...document.querySelectorAll("body *")]
  .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
  .filter((e) => !["SCRIPT", "STYLE", "NOSCRIPT"].includes(e.tagName))
  .filter((e) => parseFloat(getComputedStyle(e).fontSize) < 10).map((e) => e.textContent.slice(0, 40))"""


TESTED = "cag\teffect\tp_value\tq_value\n" + "".join(
    f"{i}\t{i / 50 - 0.4}\t{0.03 * i + 1e-9}\t0.9\n" for i in range(30)
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


def write_page(
    folder: Path, labels: list[int], samples: list[str], genes: list[str] | None = None, **columns: Any
) -> Path:
    url = write_result_store(str(folder / "cags.zarr"), labels, genes, samples=samples)
    ds = cagdask.open_dataset(url).load()
    for name, values in columns.items():
        ds[f"sample_{name}"] = ("sample", np.asarray(values))
    if len(labels) > 100:
        halved = [label // 2 for label in labels]
        other = write_result_store(str(folder / "other.zarr"), halved, genes, samples=samples)
        (folder / "by-site.tsv").write_text(TESTED)
        tested = [str(folder / "by-site.tsv")]
        ds.attrs["error_rate"] = json.dumps(
            {"fdr": 0.01, "curve": [{"support": 1, "fdr": 0.2}, {"support": 9, "fdr": 0}]}
        )
        (folder / "report.html").write_text(render(ds, tested, other))
    else:
        (folder / "report.html").write_text(render(ds))
    return folder / "report.html"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = [cag for cag, size in enumerate([40, 20, 9, 5, *[3] * 40, *[1] * 20]) for _ in range(size)]
    samples = [f"sample_{i}" for i in range(30)]
    return write_page(
        tmp_path_factory.mktemp("page"), labels, samples, site=["gut", "soil"] * 15, age=np.linspace(20, 80, 30)
    )


class Opened:
    """A page, with what it complained of and what it asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type != "log" else None)
        self.page.on("pageerror", lambda err: self.complaints.append(str(err)))
        self.page.on("request", lambda asked: self.requests.append(asked.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("body[data-ready]")
        if json.loads(self.page.text_content("#data") or "{}").get("samples", {}).get("cags"):
            self.page.wait_for_selector("#chart-composition svg.marks")

    def rows(self) -> list[str]:
        return [row.inner_text() for row in self.page.query_selector_all("#cags tbody tr:not(.open)")]


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Opened]:
    made = Opened(browser, page_file)
    yield made
    made.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window_and_asks_nobody(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    made = Opened(browser, page_file, width, scheme)
    made.page.wait_for_timeout(300)
    assert made.complaints == []
    assert [url for url in made.requests if not url.startswith(("file:", "blob:", "data:"))] == []
    assert made.page.evaluate("document.documentElement.scrollWidth") <= width
    assert made.page.evaluate(OVERLAPS) == []
    assert made.page.evaluate(SMALL) == []
    made.context.close()


def test_no_serious_fault_of_accessibility(opened: Opened) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(opened.page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []


def test_a_search_leaves_what_it_finds(opened: Opened) -> None:
    opened.page.fill("#search", "gene40")  # the gene that stands for CAG 1
    assert len(opened.rows()) == 1
    assert opened.rows()[0].split("\t")[1] == "20"
    opened.page.fill("#search", "")
    opened.page.fill("#least", "5")
    assert len(opened.rows()) == 4
    opened.page.fill("#least", "1")
    assert opened.page.inner_text("#count") == "64 of 64 CAGs"


def test_a_head_sorts_and_pages_turn(opened: Opened) -> None:
    opened.page.click("#cags thead button:has-text('cohesion')")
    place = opened.page.inner_text("#cags thead tr").split("\t").index("cohesion")
    falling = [float(row.split("\t")[place]) for row in opened.rows()]
    assert falling == sorted(falling, reverse=True)
    opened.page.click("#cags thead button:has-text('cohesion')")
    assert opened.rows()[0].split("\t")[0].strip() == "63"
    opened.page.click("#after")
    assert opened.page.inner_text("#page") == "26 to 50 of 64"


def test_a_gene_leads_to_its_cag_and_a_cag_to_its_genes(opened: Opened) -> None:
    opened.page.fill("#find", "gene6")
    opened.page.click("#found li:has-text('gene60:') button")
    assert len(opened.rows()) == 1
    opened.page.wait_for_function("document.querySelector('.members').textContent.startsWith('gene60')")
    assert opened.page.inner_text(".members").split(", ") == [f"gene{i}" for i in range(60, 69)]


def test_a_top_hit_leads_to_the_table(opened: Opened) -> None:
    opened.page.click(".to-cag[value='7']")
    assert opened.page.inner_text("#count").startswith("1 of")
    opened.page.wait_for_selector("tr.open")
    assert opened.page.input_value("#search") == "CAG 7"


def test_a_bar_is_drawn_for_each_column(opened: Opened) -> None:
    assert opened.page.inner_text("#legends").split()[0] == "site"
    opened.page.check("#bars")
    opened.page.wait_for_function("document.querySelectorAll('#legends p').length === 2")
    assert "gut" in opened.page.inner_text("#legends")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert opened.complaints == []


def test_samples_are_colored_by_what_is_picked(opened: Opened) -> None:
    opened.page.select_option("#column", "site")
    opened.page.wait_for_selector("#chart-composition svg.marks text:has-text('soil')")
    opened.page.select_option("#column", "age")
    opened.page.wait_for_selector("#chart-composition svg.marks text:has-text('age')")
    assert opened.complaints == []


def test_what_is_shown_can_be_kept(opened: Opened) -> None:
    opened.page.fill("#least", "9")
    with opened.page.expect_download() as waiting:
        opened.page.click("#download")
    lines = Path(waiting.value.path()).read_text().splitlines()
    assert lines[0].split("\t")[:2] == ["cag", "size"]
    assert [line.split("\t")[1] for line in lines[1:]] == ["40", "20", "9"]


def test_a_legend_of_long_words_fits(browser: Any, tmp_path: Path) -> None:
    words = [f"a word of thirty letters number {i}" for i in range(8)]
    labels = [i // 3 for i in range(90)]
    for width in (1280, 390):
        page = write_page(tmp_path / str(width), labels, [f"s{i}" for i in range(32)], site=words * 4)
        made = Opened(browser, page, width)
        place = made.page.locator("#chart-composition").bounding_box()
        for text in made.page.locator("#chart-composition svg.marks text", has_text="a word of").all():
            box = text.bounding_box()
            assert box["x"] + box["width"] <= place["x"] + place["width"] + 1
        assert made.page.evaluate(OVERLAPS) == []
        made.context.close()


@pytest.mark.slow
def test_a_million_genes_are_a_small_page_made_in_little_memory(browser: Any, tmp_path: Path) -> None:
    """Of 200,000 CAGs."""
    sizes = np.sort(np.r_[np.full(200, 1_000), np.full(1_000, 300), np.full(75_300, 5), np.full(123_500, 1)])[::-1]
    labels = np.repeat(np.arange(len(sizes)), sizes)
    genes = [f"NODE_{i}_{i % 13}" for i in range(len(labels))]
    samples = [f"sample_{i}" for i in range(200)]
    url = write_result_store(str(tmp_path / "cags.zarr"), labels.tolist(), genes=genes, samples=samples)
    # VmHWM, since ru_maxrss counts what the process that started it held
    program = f"import cagdask, re; cagdask.report({url!r}); status = open('/proc/self/status').read(); "
    program += "print(re.search('VmHWM: *([0-9]+)', status.replace(chr(9), ' '))[1])"
    peak = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert int(peak) * 1024 < 2**30
    page = tmp_path / "report.html"
    assert page.stat().st_size < 10 * 2**20
    for width in (1280, 390):
        made = Opened(browser, page, width)
        assert made.complaints == []
        assert made.page.evaluate(OVERLAPS) == []
        made.context.close()


@pytest.mark.parametrize(
    ("labels", "samples"),
    [
        ([0, 0, 0], ["only"]),
        ([0], [f"s{i}" for i in range(5)]),
        ([i // 3 for i in range(1200)], ["x" * 80, "y" * 80, "z"]),
        ([0] * 5 + [1] * 4 + [2] * 3, [f"s{i}" for i in range(5000)]),
        ([-1, -1], ["a", "b"]),
        ([i // 4 for i in range(20)], [f"s{i}" for i in range(12)]),
    ],
    ids=["one sample", "one gene", "400 CAGs and long names", "5,000 samples", "nothing left", "5 CAGs"],
)
def test_small_large_and_odd_results_are_pages_too(
    browser: Any, tmp_path: Path, labels: list[int], samples: list[str]
) -> None:
    for width in (1280, 390):
        genes = [f"{i:04d}{'g' * 76}" for i in range(len(labels))]
        made = Opened(browser, write_page(tmp_path / str(width), labels, samples, genes), width)
        made.page.wait_for_timeout(200)
        assert made.complaints == []
        assert made.page.evaluate(OVERLAPS) == []
        assert made.page.evaluate("document.documentElement.scrollWidth") <= width
        made.context.close()
