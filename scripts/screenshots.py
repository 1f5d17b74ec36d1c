"""Take the pictures of the report that the README and the docs show: ``python scripts/screenshots.py``.

Runs the demo, opens its report in Chromium, and writes ``docs/images/report.png``. Beside it ``report.json`` holds a
digest of what the page is made from; a test compares it, so that the picture does not stay behind.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1280, 1190
"""Of the picture, in pixels."""


def digest_of_page() -> str:
    """Changes when the page's templates change."""
    files = sorted((ROOT / "cagdask" / "reports" / "templates").iterdir())
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def main() -> None:
    """Run the demo and take the picture."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or sys.exit("chromium is needed: apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        cagdask = Path(sys.executable).parent / "cagdask"
        sheet = ROOT / "demo" / "sample_sheet.json"
        command = [str(cagdask), "run", str(sheet), "--output", f"{folder}/demo", "--no-progress"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"file://{folder}/demo/report.html")
        page.wait_for_selector("svg.marks")
        page.wait_for_timeout(1000)
        page.screenshot(path=str(IMAGES / "report.png"))
        browser.close()
    (IMAGES / "report.json").write_text(json.dumps({"templates": digest_of_page()}) + "\n")


if __name__ == "__main__":
    main()
