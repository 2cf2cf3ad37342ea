"""The status as a page: valid, harmless whatever a file is called, and it loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from up42fs.cli.status_html import page

HOSTILE = '<script src="http://evil.example/x.js">[bold]\x1b[31m&amp;"'


class Elements(HTMLParser):
    """Collects elements, the attributes that load something, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Elements:
    parser = Elements()
    parser.feed(text)
    parser.close()
    return parser


def document(name: str) -> dict:
    file = {"name": name, "size": 200, "programs": {name: 1}, "reads": 3, "bytes_read": 100}
    file |= {"bytes_touched": 50, "waited_seconds": 0.5}
    return {
        **{"mountpoint": name, "account": name, "api": "http://api", "assets": 2, "orders": 1},
        **{"top_files": [file], "notes": [name], "counters": {"store.requests": 1234}},
        "recent_errors": [{"time": "12:00:00", "message": name}],
    }


@given(st.text() | st.just(HOSTILE))
def test_no_name_becomes_an_element(name: str) -> None:
    elements = read(page([document(name)], "now"))
    allowed = "html head meta title style body p h1 h2 table tr th td meter details summary"
    assert set(elements.names) <= set(allowed.split())
    assert elements.loads == []
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", elements.text)


def test_it_tells_what_status_tells() -> None:
    text = read(page([document("scene.tif"), document("other.tif")], "2026-11-30")).text
    for said in ("2 assets, 1 order", "1,234", "25%", "scene.tif", "other.tif", "2026-11-30"):
        assert said in text
    assert "Nothing is mounted" in read(page([], "now")).text
