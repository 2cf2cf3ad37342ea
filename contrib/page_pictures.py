"""Makes the pictures of docs/serve.md: the page of `up42fs serve`, in a headless Chromium.

    python contrib/page_pictures.py      writes page.png and page-phone.png to docs/pictures

Needs Debian's package chromium, and `pip install 'up42fs[pages]'`. The storage is the emulator's
sample.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
COMMAND = (sys.executable, "-P", "-m", "up42fs")
ORDER = "Sentinel-2 Brandenburg"


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, as Debian installs it."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise SystemExit("chromium is missing; run: sudo apt-get install chromium")
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


@contextmanager
def server() -> Iterator[str]:
    """The address of a server of the sample storage."""
    with tempfile.TemporaryDirectory() as home:
        emulator = subprocess.Popen(
            [*COMMAND, "emulator", "--die-with-parent"], stdout=subprocess.PIPE, text=True
        )
        assert emulator.stdout is not None
        env = json.loads(emulator.stdout.readline())["env"]
        serving = subprocess.Popen(
            [*COMMAND, "serve", "--listen", "127.0.0.1:0", "--cache-dir", home],
            # What UP42 lists is shown first while STAC was not read: a picture of chance otherwise.
            env=env | {"PATH": "/usr/bin:/bin", "HOME": home, "UP42FS_CRAWL_AFTER_S": "3600"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert serving.stdout is not None
        try:
            yield serving.stdout.readline().split()[-1]
        finally:
            for process in (serving, emulator):
                process.terminate()
                process.wait()


def draw(address: str, name: str, **context: Any) -> None:
    """A picture of one order with one file selected."""
    with browser() as running:
        page = running.new_page(**context)
        page.goto(address)
        page.click(f"#list >> text={ORDER}")
        page.wait_for_selector("path.outline")
        page.click("#entries tbody tr:has-text('.zip') a")
        page.wait_for_selector("#detail dd:nth-of-type(4)")
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        page.screenshot(path=PICTURES / f"{name}.png")


def main() -> None:
    """Draw both pictures."""
    with server() as address:
        draw(address, "page", viewport={"width": 1200, "height": 760})
        phone = {"width": 390, "height": 760}
        draw(address, "page-phone", viewport=phone, color_scheme="dark")


if __name__ == "__main__":
    main()
