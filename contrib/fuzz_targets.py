"""Parsers of bytes or text that others made, each as a function of bytes, and what must hold.

A target raises only where a parser broke its promise: an exception it does not declare, a name that
no path can hold, a range outside its file. For the fuzzer (`contrib/fuzz`) and for hypothesis.
"""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import fuzz_targets_archives as packed
import fuzz_targets_zip as zipped
import httpx

from up42fs import logs
from up42fs.api import bounds, explain, links, schema
from up42fs.doctor.scrub import Scrubber
from up42fs.errors import InvalidAnswer, InvalidArgument
from up42fs.model import geojson, names, query
from up42fs.net import expiry
from up42fs.ranges import RangeSet
from up42fs.readahead import tiff
from up42fs.readahead import zip as archives
from up42fs.readahead.parse_budget import MOST_HELD_BYTES
from up42fs.readahead.plan import Access, Insight
from up42fs.store.disk import format as cells
from up42fs.store.http.answer import Final, Garbled, ResponseHead, Take, VersionPin, judge, total_of
from up42fs.types import ByteRange
from up42fs.visible import visible, visible_json

API = "https://api.up42.com"


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def rows(data: bytes) -> None:
    """API rows: never an exception, and names that a path can hold."""
    row = _json(data)
    asset = schema.parse_asset(row)
    if asset is not None:
        _check_name(names.asset_name(asset.name, asset.title, asset.content_type, asset.id))
        assert asset.size is None or 0 <= asset.size < 1 << 63
    order = schema.parse_order(row)
    if order is not None and (named := names.safe_name(order.display_name)) is not None:
        _check_name(named)


def items(data: bytes) -> None:
    """STAC items and collections, and what the mount writes of them."""
    row = _json(data)
    item = schema.parse_item(row, API)
    if item is not None:
        for file in item.assets:
            _check_signable(file.asset_id)
    collection = schema.parse_collection(row, API)
    assert collection is None or collection.id


def hrefs(data: bytes) -> None:
    """Links of answers: an ID below the API, or a reason; a page on the API's own origin."""
    text = data.decode("utf-8", "replace")
    found, why = links.asset_id_of_href(text, API)
    assert (found is None) != (why is None)
    _check_signable(found)
    if links.is_safe_link(text, API):
        assert text.strip().lower().startswith("https:")
    try:
        page = links.next_link([{"rel": "next", "href": text}], API, sent_body=None)
    except InvalidAnswer:
        return
    assert page is not None
    assert page.url.startswith(API + "/")


def _check_signable(asset_id: str | None) -> None:
    """A signed resource is one place below the API, sent as it is written."""
    if asset_id is None:
        return
    path = links.signing_path(asset_id)
    assert path.startswith("/v2/")
    assert path.endswith("/download-url")
    assert not {"", ".", ".."} & set(unquote(path).split("/")[1:])
    url = httpx.URL(API + path)
    assert (url.host, url.raw_path.decode()) == ("api.up42.com", path)


def identifiers(data: bytes) -> None:
    """IDs become one path segment."""
    try:
        quoted = links.segment(data.decode("utf-8", "replace"))
    except InvalidArgument:
        return
    assert quoted
    assert "/" not in quoted
    assert quoted not in (".", "..")


def errors(data: bytes) -> None:
    """Error bodies become one short line without control characters."""
    response = httpx.Response(500, content=data, headers={"content-type": "application/json"})
    code, words = explain.explain(response, bounds.parse(data))
    for text in (code or "", words):
        assert len(text) <= explain.LONGEST_WORDS
        assert text.isprintable()


def lifetimes(data: bytes) -> None:
    """Links and dates: a bounded number of seconds."""
    text = data.decode("latin-1")
    expiry.server_time(text)
    for link in (text, f"https://store/x?{text}"):
        assert 0 <= expiry.lifetime_s(link, 1_700_000_000.0) <= 7 * 86400


def answers(data: bytes) -> None:
    """Heads of the object store: only what is the range asked for is taken."""
    lines = data.decode("latin-1").split("\n")
    headers = {k.lower(): v for k, _, v in (line.partition(":") for line in lines[1:])}
    status = 206 if data[:1] < b"\x80" else 200
    head, asked = ResponseHead(status, headers), ByteRange(100, 200)
    total_of(head)
    pin = VersionPin(1000)
    judged = judge(head, asked, pin)
    assert isinstance(judged, Take | Garbled | Final)
    if isinstance(judged, Take):
        assert judged.version.size == 1000
        assert judged.skip == (0 if status == 206 else 100)


def file_names(data: bytes) -> None:
    """Whatever UP42 calls a thing, its name is one path component; making safe is idempotent."""
    name = names.safe_name(data.decode("utf-8", "surrogateescape"))
    if name is not None:
        _check_name(name)
        assert names.safe_name(name) == name


def queries(data: bytes) -> None:
    """Names of searches: none, or one whose spelling means the same again."""
    found = query.parse_query(data.decode("utf-8", "replace"))
    if found is not None:
        again = query.parse_query(found.canonical())
        assert again is not None
        assert again.canonical() == found.canonical()
        json.dumps(found.stac_body(100))


def tiffs(data: bytes) -> None:
    """Heads of TIFF files: tiles lie within the file; huge counts cost nothing."""
    size = len(data) * 4

    def get(span: ByteRange) -> bytes | None:
        return data[span.start : span.stop] if span.stop <= len(data) else None

    layout = tiff.parse(size, get)
    if size:
        for tile in layout.under(ByteRange(0, size))[:100]:
            span = layout.levels[tile.level].span(tile.plane, tile.row, tile.col)
            assert span is not None
            assert 0 <= span.start < span.stop <= size
    assert layout.held_bytes <= MOST_HELD_BYTES + 4096


def structures(data: bytes) -> None:
    """Objects read from anywhere: TIFFs, also in archives; never beyond the file's budget."""
    insight = Insight(len(data))
    access, structure = Access(len(data), None, insight), insight.structure

    def get(span: ByteRange) -> bytes | None:
        return data[span.start : span.stop] if span.stop <= len(data) else None

    chance = random.Random(len(data))
    for number in range(8 if data else 0):
        start = (0, max(0, len(data) - 64), chance.randrange(len(data)))[min(number, 2)]
        read = ByteRange(start, min(len(data), start + 64))
        access.on_read(read, RangeSet([read]), 1 << 20)
        structure.learn(read, get)
    assert structure.budget.steps >= 0
    assert structure.held_bytes <= MOST_HELD_BYTES + 4096
    access.on_close()


def zips(data: bytes) -> None:
    """Tails and directories of archives."""
    size = len(data) * 2
    directory = archives.find_directory(size, data)
    if directory is not None and directory.span is not None:
        assert directory.span.stop <= size
        for member in list(archives.parse_directory(directory, data))[:100]:
            assert member.header_at >= 0
            archives.data_start(member, data)


def documents(data: bytes) -> None:
    """JSON of answers: in pieces what it is as a whole, or none; nothing out of bounds."""
    try:
        found = bounds.parse(data)
        pieces = bounds._Pieces(data.decode()).document()
    except (bounds.OutOfBoundsError, ValueError, RecursionError):
        return
    assert repr(found) == repr(pieces)


def bodies(data: bytes) -> None:
    """Packed bodies: bytes within bounds, or a refusal."""
    for encoding in ("gzip", "deflate", data[:20].decode("latin-1")):
        try:
            unpacked = sum(map(len, bounds.Unpacker(encoding).feed(data)))
        except bounds.OutOfBoundsError:
            continue
        assert unpacked <= bounds.LARGEST_ANSWER_BYTES


def outlines(data: bytes) -> None:
    """Geometries: one that is sound has a box."""
    shape = _json(data)
    if geojson.is_geometry(shape):
        west, south, east, north = geojson.bounds(shape)
        assert west <= east
        assert south <= north


def texts(data: bytes) -> None:
    """Text for logs, terminals and the support archive: in its lines, and all of it visible."""
    text = data.decode("utf-8", "surrogateescape")
    shown = visible(logs.redact(text))
    assert shown.isprintable()
    json.loads(visible_json(json.dumps({"text": text}, ensure_ascii=False)))
    Scrubber({"name": "<name>"}).log(text)


def cache_headers(data: bytes) -> None:
    """Heads of cache files that somebody else may have written."""
    label = cells.parse_header(data)
    if label is not None:
        assert label.version.size >= 0
        assert not math.isnan(float(label.version.size))


def _check_name(name: str) -> None:
    assert name not in ("", ".", "..")
    assert "/" not in name
    assert "\0" not in name
    assert len(name.encode()) <= 255
    assert "\n" not in name


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(rows, items, hrefs, identifiers, errors, lifetimes),
        *(
            answers,
            file_names,
            queries,
            tiffs,
            structures,
            zips,
            cache_headers,
            documents,
            bodies,
            outlines,
            texts,
        ),
        *packed.TARGETS,
        *zipped.TARGETS,
    )
}

#: Something near the valid, to begin with.
SEEDS: dict[str, tuple[bytes, ...]] = {
    "rows": (
        b'{"id":"7babc885-be3b-41e2-8a7b-9ef7288f8f53","name":"a.zip","size":3,"tags":["x"],'
        b'"createdAt":"2024-01-01T00:00:00Z","displayName":"o"}',
    ),
    "items": (
        b'{"id":"i","collection":"c","properties":{"datetime":"2024-01-01T00:00:00Z","gsd":1},'
        b'"bbox":[1,2,3,4],"assets":{"b":{"href":"https://api.up42.com/v2/assets/x"}}}',
    ),
    "hrefs": (b"https://api.up42.com/v2/assets/abc/download-url", b"../v2/assets/stac?x=1"),
    "errors": (b'{"title":"t","detail":"d"}', b'{"error":{"code":1,"message":"m"}}'),
    "lifetimes": (b"Expires=1700000300&Signature=x", b"X-Goog-Date=20240101T000000Z"),
    "answers": (b'\ncontent-range: bytes 100-199/1000\ncontent-length: 100\netag: "a"',),
    "queries": (b"cloud<10,bbox=13.0,52.5,13.1,52.6", b"datetime=2024-05-01..2024-06-01"),
    "tiffs": (b"II*\0\x08\0\0\0\x01\0\x44\x01\x04\0\x01\0\0\0\x40\0\0\0\0\0\0\0" + bytes(64),),
    "documents": (b'{"content":[{"id":"a","tags":["b"]},2],"x":{}}',),
    "bodies": (gzip.compress(b"a" * 99),),
    "outlines": (b'{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}',),
    "texts": (b"GET https://u:p@h/?Signature=x password='y' 'name'",),
    "structures": (
        b"II*\0\x08\0\0\0\x05\0\0\x01\x04\0\x01\0\0\0\x10\0\0\0\x01\x01\x04\0\x01\0\0\0\x10\0\0\0"
        b"\x42\x01\x04\0\x01\0\0\0\x10\0\0\0\x43\x01\x04\0\x01\0\0\0\x10\0\0\0"
        b"\x44\x01\x04\0\x01\0\0\0\x08\0\0\0\x45\x01\x04\0\x01\0\0\0\x10\0\0\0" + bytes(40),
    ),
    "zips": (b"PK\x05\x06" + bytes(4) + b"\x01\0\x01\0" + b"\x2e\0\0\0" + bytes(6),),
    **packed.SEEDS,
    **zipped.SEEDS,
}
