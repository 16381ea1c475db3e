"""``python -m docs.screenshot [FOLDER]``: photographs a study's report, by default ``make compare``'s."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main() -> None:
    """Writes docs/report.png: the first 1,500 points of the page, 1,000 wide."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "thalweg-digits")
    picture = Path(__file__).with_name("report.png")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 1500}, device_scale_factor=1)
        page.goto((folder / "report.html").resolve().as_uri())
        page.wait_for_selector("#curves .plot-container")
        page.screenshot(path=picture)
        browser.close()
    print(f"-> {picture}")


if __name__ == "__main__":
    main()
