"""Directories as JSON for programs and as HTML for people, and for programs that read HTML.

Pure: takes a listing and returns text. `wget -r`, rclone's `http` remote, fsspec and GDAL list a
server by the links of its pages; so JSON is sent to those alone who ask for it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from up42fs.fs.tree.nodes import Attributes
from up42fs.serve.addresses import encoded, joined

JSON_KIND, HTML_KIND = "application/json", "text/html; charset=utf-8"
_NS = 1_000_000_000


def wants_json(accept: str, said: bool | None = None) -> bool:
    """Whether a client prefers JSON, by its Accept header unless the query says it."""
    if said is not None:
        return said
    weights = {"application/json": 0.0, "text/html": 0.0}
    for part in accept.casefold().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        if kind in weights:
            weights[kind] = max(weights[kind], _weight(parameters))
    return weights["application/json"] > weights["text/html"]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def directory(
    path: str, listing: Mapping[str, Attributes], base: str, *, is_json: bool
) -> tuple[str, bytes]:
    """The Content-Type and the body of a directory."""
    if is_json:
        return JSON_KIND, as_json(path, listing, base)
    return HTML_KIND, as_html(path, listing, base)


def as_json(path: str, listing: Mapping[str, Attributes], base: str) -> bytes:
    """The directory as JSON: for each name its type, size (null if unknown), time and address."""
    entries = [
        {
            "name": name,
            "type": "directory" if attributes.is_dir else "file",
            "size": _size(attributes),
            "modified": _moment(attributes).isoformat().replace("+00:00", "Z"),
            "href": joined(base, _below(path, name), is_dir=attributes.is_dir),
        }
        for name, attributes in listing.items()
    ]
    return json.dumps({"path": path, "entries": entries}, ensure_ascii=False).encode() + b"\n"


def as_html(path: str, listing: Mapping[str, Attributes], base: str) -> bytes:
    """The directory as a plain page of links, which needs no script."""
    prefix = _path_of(base)
    shown = html.escape(path)
    rows = [_row(name, prefix + encoded(_below(path, name)), at) for name, at in listing.items()]
    if path != "/":
        parent = prefix + encoded(path.rpartition("/")[0]) + "/"
        rows.insert(0, f'<tr><td><a href="{html.escape(parent)}">../</a></td></tr>')
    body = "\n".join(rows)
    page = _PAGE.format(title=f"Index of {shown}", body=body, home=html.escape(prefix) + "/")
    return page.encode()


def _row(name: str, address: str, attributes: Attributes) -> str:
    slash = "/" if attributes.is_dir else ""
    size = _size(attributes)
    told = "" if attributes.is_dir else ("?" if size is None else f"{size:,}")
    link = f'<a href="{html.escape(address)}{slash}">{html.escape(name)}{slash}</a>'
    moment = f"{_moment(attributes):%Y-%m-%d %H:%M}"
    return f"<tr><td>{link}</td><td>{moment}</td><td>{told}</td></tr>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
</head>
<body>
<h1>{title}</h1>
<p><a href="{home}">up42fs</a></p>
<table>
{body}
</table>
</body>
</html>
"""


def _below(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}"


def _size(attributes: Attributes) -> int | None:
    if attributes.is_dir or (attributes.attr_ttl_s == 0.0 and not attributes.size):
        return None
    return attributes.size


def _moment(attributes: Attributes) -> datetime:
    return datetime.fromtimestamp(attributes.mtime_ns // _NS, UTC)


def _path_of(base: str) -> str:
    """The part of an address behind the host."""
    rest = base.partition("://")[2]
    slash = rest.find("/")
    return "" if slash < 0 else rest[slash:]
