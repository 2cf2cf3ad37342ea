"""The status of mounts as one page of HTML, to be mailed: it loads nothing and runs nothing.

Pure: takes status documents, and returns text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from rich.filesize import decimal
from rich.text import Text

from up42fs.cli.status_view import Document, rows
from up42fs.visible import visible

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0 }
th { font-weight: 600; white-space: nowrap }
tr { border-bottom: 1px solid #8884 }
td.number, th.number { text-align: right; white-space: nowrap }
td { overflow-wrap: anywhere }
meter { width: 8rem }
"""


def page(documents: Sequence[Document], made_at: str) -> str:
    """Return the page about the mounts of `documents`; `made_at` is the time that it names."""
    body = "".join(part for document in documents for part in _mount(document))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>up42fs, {escape(made_at)}</title><style>{_STYLE}</style></head>"
        f"<body><p>up42fs, {escape(made_at)}</p>{body or '<p>Nothing is mounted.</p>'}"
        "</body></html>\n"
    )


def _mount(document: Document) -> Iterator[str]:
    yield f"<h1>{_shown(document.get('mountpoint'))}</h1><table>"
    title = ""
    for name, markup in rows(document):
        title = name or title
        plain = Text.from_markup(markup).plain
        yield f'<tr><th scope="row">{_shown(name and title)}</th><td>{_shown(plain)}</td></tr>'
    yield "</table>"
    yield from _files(document.get("top_files") or [])
    counters: Mapping[str, int] = document.get("counters") or {}
    yield f"<details><summary>All {len(counters)} counters</summary><table>"
    for name, count in sorted(counters.items()):
        yield f'<tr><th scope="row">{_shown(name)}</th><td class="number">{count:,}</td></tr>'
    yield "</table></details>"


def _files(files: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not files:
        return
    yield "<h2>Files of which most was read</h2><table><tr><th>file</th><th>of it</th>"
    yield '<th class="number">read</th><th class="number">waited</th><th>by</th></tr>'
    for file in files:
        size, touched = file["size"] or 0, file["bytes_touched"]
        share = touched / size if size else 0.0
        programs = ", ".join(file["programs"])
        yield (
            f"<tr><td>{_shown(file['name'])}</td>"
            f'<td><meter value="{share:.3f}">{share:.0%}</meter> {share:.0%}</td>'
            f'<td class="number">{decimal(file["bytes_read"])}</td>'
            f'<td class="number">{file["waited_seconds"]:.1f} s</td>'
            f"<td>{_shown(programs)}</td></tr>"
        )
    yield "</table>"


def _shown(text: object) -> str:
    return escape(visible(str(text)))
