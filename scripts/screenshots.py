"""Take the pictures that the README and the docs show: ``python scripts/screenshots.py [report] [explorer]``.

Runs the demo, opens its report and its explorer in Chromium, and writes ``docs/images/report.png`` and
``explorer.png``. Beside each a ``.json`` holds a digest of what the page is made from; a test compares it, so that no
picture stays behind.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1280, 1190
"""Of the picture, in pixels."""


PARTS = {
    "report": sorted((ROOT / "cagdask" / "reports" / "templates").iterdir()),
    "explorer": [ROOT / "cagdask" / "explore" / name for name in ("figures.py", "page.py", "parts.py")],
}
"""What each page is made from."""


def digest_of_page(name: str = "report") -> str:
    """Changes when the page's templates, or its code, change."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in PARTS[name] if file.is_file())).hexdigest()


def take_report(page: Any, folder: str) -> None:
    """The report of the demo."""
    page.goto(f"file://{folder}/demo/report.html")
    page.wait_for_selector("svg.marks")
    page.wait_for_timeout(1000)
    page.screenshot(path=str(IMAGES / "report.png"))


def take_explorer(page: Any, folder: str) -> None:
    """The explorer of the demo, with its map."""
    command = [sys.executable, "-m", "cagdask", "explore", "demo", "--port", "0", "--no-show"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder) as served:
        assert served.stderr
        try:
            address = next(m[0] for line in served.stderr if (m := re.search(r"http://localhost:\d+/", line)))
            page.set_default_timeout(120_000)
            page.goto(address)
            page.wait_for_selector("text=/CAG 0: /")
            page.type("input[placeholder^='name']", "Bifido")
            page.click(".tabulator-cell:has-text('Bifidobacterium')")
            page.click("text=/^Map$/")
            page.wait_for_selector("text=/--view map/", timeout=300_000)
            page.mouse.move(5, 5)
            page.wait_for_timeout(3000)
            page.screenshot(path=str(IMAGES / "explorer.png"))
        finally:
            served.terminate()


def main() -> None:
    """Run the demo and take the pictures that are named, or all."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or sys.exit("chromium is needed: apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        cagdask = Path(sys.executable).parent / "cagdask"
        sheet = ROOT / "demo" / "sample_sheet.json"
        command = [str(cagdask), "run", str(sheet), "--output", f"{folder}/demo", "--no-progress"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name in sys.argv[1:] or list(PARTS):
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            {"report": take_report, "explorer": take_explorer}[name](page, folder)
            (IMAGES / f"{name}.json").write_text(json.dumps({"templates": digest_of_page(name)}) + "\n")
        browser.close()


if __name__ == "__main__":
    main()
