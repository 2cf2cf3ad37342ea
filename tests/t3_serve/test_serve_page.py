"""The page for people, in a real Chromium: lists, map, copying, keys, phones, dark mode."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from harness import Emulator, Served, emulator, served

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'up42fs[pages]'"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")

ORDER = "Sentinel-2 Brandenburg"
ODD = 'a "b" <img src=x onerror=alert(1)> & 100% #1?.tif'
LONG_MS = 20_000


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator() as running:
        running.remote.storage("add_asset", name=ODD, size=4000, seed=1, tags=["odd # 1?"])
        yield running


@pytest.fixture(scope="module")
def server(store: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(store.env, home=tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, server: Served) -> Iterator[Any]:
    """A page that may ask nobody but the server, and reports no error."""
    with opened(browser, server, viewport={"width": 1280, "height": 900}) as page:
        yield page


def opened(browser: Any, server: Served, **words: Any) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def inner() -> Iterator[Any]:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **words)
        page = context.new_page()
        page.set_default_timeout(LONG_MS)
        wrong: list[str] = []

        def note(text: str) -> None:
            if "status of 404" not in text:  # a search that is none
                wrong.append(text)

        page.on("console", lambda m: note(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append("a script of a name ran"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((server.address, "data:"))
                else wrong.append(request.url)
            ),
        )
        page.goto(server.address)
        yield page
        context.close()
        assert wrong == []

    return inner()


def copied(page: Any, what: str) -> str:
    page.click(f"#detail button:has-text('Copy {what}')")
    return str(page.evaluate("navigator.clipboard.readText()"))


@pytest.mark.claim("S289")
def test_from_an_order_to_a_line_of_python(page: Any, server: Served) -> None:
    page.wait_for_selector("#map .outline")
    page.click(f"#list >> text={ORDER}")
    page.wait_for_function("() => document.querySelectorAll('#entries tbody tr').length == 2")
    page.click("#entries tbody a:has-text('/')")  # the directory of files
    page.click("#entries tbody a:text-is('b04.tiff')")
    page.wait_for_selector("#detail dd")
    address = copied(page, "Address")
    assert address.startswith(server.address + "orders/Sentinel-2%20Brandenburg/")
    assert address.endswith("/b04.tiff")
    path = unquote(address.removeprefix(server.address))
    assert copied(page, "Path on the mount") == f"~/up42/{path}"
    assert copied(page, "/vsicurl/ string") == f"/vsicurl/{address}"
    assert copied(page, "Line of Python") == (
        f"import rasterio; image = rasterio.open({json.dumps(address)})"
    )
    page.keyboard.press("Escape")
    page.wait_for_selector("#detail", state="hidden")


@pytest.mark.claim("S289")
def test_outlines_lead_to_files_and_the_map_moves(page: Any) -> None:
    page.click(f"#list >> text={ORDER}")
    page.wait_for_selector("path.outline")
    page.wait_for_function(
        "() => document.getElementById('map-note').textContent.includes('1 outline')"
    )
    before = page.get_attribute("#map", "viewBox")
    page.focus("#map")
    for key in ("+", "ArrowLeft", "ArrowDown", "-"):
        page.keyboard.press(key)
        page.wait_for_function(
            "before => document.getElementById('map').getAttribute('viewBox') != before", arg=before
        )
        before = page.get_attribute("#map", "viewBox")
    page.keyboard.press("0")
    page.wait_for_timeout(100)
    box = page.locator("#map .outline").first.bounding_box()
    frame = page.locator("#map").bounding_box()
    assert frame["x"] <= box["x"] <= frame["x"] + frame["width"]
    page.mouse.move(frame["x"] + 100, frame["y"] + 100)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(100)
    page.keyboard.press("0")
    page.locator("#map .outline").first.dispatch_event("click")
    page.wait_for_selector("#detail dd")


def test_names_are_text_and_any_name_can_be_chosen(page: Any) -> None:
    page.click("#tabs a:text-is('Tags')")
    page.click("#list >> text=odd # 1?")
    # The table still shows what was chosen before, until the answer is there.
    link = page.locator("#entries tbody a", has_text="<img")
    link.first.wait_for()
    link.first.click()
    page.wait_for_selector("#detail dd")
    assert page.locator("#detail img").count() == 0
    answer = page.request.get(copied(page, "Address"), max_redirects=0)
    assert answer.status == 302


def test_search(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("tempelhof")
    page.keyboard.press("Enter")
    page.wait_for_selector("#entries tbody a:has-text('tempelhof_visual.tif')")
    assert page.url.endswith("#/search/text%3Dtempelhof")
    page.fill("#query", "cloud < nonsense")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('message').textContent.length > 20")
    page.reload()
    page.wait_for_function("() => document.getElementById('message').textContent.length > 20")


def test_health_previews_and_keys(page: Any) -> None:
    page.wait_for_selector("#light.good")
    page.click("#health")
    facts = page.inner_text("#facts")
    for word in ("Disk cache", "Cost so far", "Mounted at", "redirects"):
        assert word in facts
    page.click("#tabs a:text-is('Assets')")
    image = page.locator("#entries img").first
    image.wait_for()
    page.wait_for_function("() => document.querySelector('#entries img').naturalWidth > 10")
    rows = page.locator("#entries tbody a")
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == rows.nth(1).inner_text()
    page.fill("#filter", "elevation")
    assert page.locator("#list li:visible").count() == 1
    # What the preview fetched is cached now.
    page.reload()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.here')].some(each => each.textContent.includes('B'))"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(browser: Any, server: Served, scheme: str) -> None:
    size = {"width": 360, "height": 700}
    with opened(browser, server, viewport=size, color_scheme=scheme, has_touch=True) as page:
        page.wait_for_selector("#map .outline")
        page.click(f"#list >> text={ORDER}")
        page.wait_for_selector("#entries tbody a:has-text('.zip')")
        page.click("#entries tbody a:has-text('.zip')")
        page.wait_for_selector("#detail dd")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        back = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        bright = sum(map(int, back.removeprefix("rgb(").removesuffix(")").split(","))) > 380
        assert bright is (scheme == "light")


def test_below_a_token(browser: Any, store: Emulator, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    with served(store.env, "--token-file", str(token_file), home=tmp_path) as server:
        below = f"{server.address}~{token_file.read_text().strip()}/"
        inside = Served(below, server.process, server.log, server.env)
        with opened(browser, inside, viewport={"width": 900, "height": 700}) as page:
            page.click(f"#list >> text={ORDER}")
            page.click("#entries tbody a:has-text('.zip')")
            page.wait_for_selector("#detail dd")
            assert copied(page, "Address").startswith(below + "orders/")
