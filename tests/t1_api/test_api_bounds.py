"""Answers within bounds: unpacked, measured and parsed piece by piece as they would be whole."""

from __future__ import annotations

import gc
import gzip
import json
import threading
import time
import tracemalloc
import warnings
import zlib
from functools import partial

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from up42fs.api import bounds, links, schema
from up42fs.api.bounds import OutOfBoundsError, Unpacker, check_shape, parse
from up42fs.api.network import make_http
from up42fs.api.oddities import Oddities
from up42fs.api.transport import ApiTransport, Call
from up42fs.deadlines import within
from up42fs.errors import InvalidAnswer, InvalidArgument, Up42fsError
from up42fs.metrics import Metrics
from up42fs.model import geojson
from up42fs.net import retry

API = "https://api.up42.com"
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=8),
    max_leaves=60,
)


def unpacked(body: bytes, encoding: str, step: int = 4096) -> bytes:
    unpacker = Unpacker(encoding)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    return b"".join(part for piece in pieces for part in unpacker.feed(piece))


@given(st.binary(max_size=20_000), st.integers(1, 5000))
def test_what_is_packed_is_unpacked(data: bytes, step: int) -> None:
    raw = zlib.compressobj(wbits=-15)
    forms = {
        "": data,
        "identity": data,
        "gzip": gzip.compress(data),
        "deflate": zlib.compress(data),
        " GZIP ,identity": gzip.compress(data),
    }
    for encoding, body in forms.items():
        assert unpacked(body, encoding, step) == data
    bare = raw.compress(data) + raw.flush()
    assert unpacked(bare, "deflate", max(step, 100)) == data


@pytest.mark.claim("S141")
@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,gzip,gzip", "br", "gzip, deflate"])
def test_layers_of_compression_are_no_answer(encoding: str) -> None:
    with pytest.raises(OutOfBoundsError):
        Unpacker(encoding)


@pytest.mark.claim("S141")
def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(300 << 20), 1)
    tracemalloc.start()
    with pytest.raises(OutOfBoundsError):
        for _ in Unpacker("gzip").feed(bomb):
            pass
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    unpacker = Unpacker("")
    with pytest.raises(OutOfBoundsError):
        list(map(list, map(unpacker.feed, [bytes(1 << 20)] * 40)))


@given(values, st.integers(1, 3), st.sampled_from([16, 64, 300]))
def test_pieces_make_the_same_document(value: object, indent: int, length: int) -> None:
    body = json.dumps({"content": [value, value], "x": value}, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "SMALL_BYTES", 0)
        patch.setattr(bounds, "PIECE_CHARACTERS", length)
        patch.setattr(bounds, "_LOOK_CHARACTERS", length // 2)
        assert parse(body) == json.loads(body)


@given(values, st.data())
def test_pieces_refuse_what_is_no_json(value: object, data: st.DataObject) -> None:
    body = bytearray(json.dumps({"content": [value], "y": [1, {"a": value}]}).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + 1] = data.draw(st.sampled_from([b"", b",", b"]", b"}", b":", b'"', b" ", b"x"]))
    try:
        whole = json.loads(bytes(body))
    except ValueError:
        whole = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "SMALL_BYTES", 0)
        patch.setattr(bounds, "PIECE_CHARACTERS", 16)
        patch.setattr(bounds, "_LOOK_CHARACTERS", 8)
        assert parse(bytes(body)) == whole


@pytest.mark.claim("S141")
@pytest.mark.parametrize(
    "body",
    [
        b'{"content":[' + b"[]," * (10 << 20) + b"[]]}",
        b'{"content":[' + b"{}," * (10 << 20) + b"{}]}",
        b'{"content":[' + b"1," * (15 << 20) + b"1]}",
        b'{"content":[' + b'{"id":"a"},' * 134_000 + b"1]}",
        b"[" * 5000,
        b'{"a":' * 600 + b"1" + b"}" * 600,
    ],
    ids=["lists", "objects", "numbers", "rows", "open", "deep"],
)
def test_values_without_end_are_no_answer(body: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(OutOfBoundsError):
        parse(body)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


def test_brackets_in_texts_are_no_depth() -> None:
    check_shape(json.dumps({"a": "[{" * 5000, "b": '\\"[' * 900}).encode())


@pytest.mark.claim("S141")
def test_a_large_page_holds_nobody_up() -> None:
    """The longest that another thread waits for the lock; one value of 8 MB is parsed in pieces."""
    ring = [[n / 7, n / 11] for n in range(150_000)]
    rows = [{"id": str(n), "geometry": {"coordinates": [ring[:2000]]}} for n in range(40)]
    body = json.dumps({"features": [*rows, {"geometry": {"coordinates": [ring]}}]}).encode()
    waits: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            began_s = time.perf_counter()
            time.sleep(0.002)
            waits.append(time.perf_counter() - began_s)

    watcher = threading.Thread(target=look)
    watcher.start()
    document = parse(body)
    done.set()
    watcher.join()
    assert len(document["features"]) == 41
    assert len(waits) > 10, "the other thread had its turns"
    assert sorted(waits)[len(waits) // 2] < 0.1


LONG = "x" * 70_000


@pytest.mark.claim("S142")
def test_no_text_of_a_row_is_without_end() -> None:
    row = {
        "id": "i", "name": LONG, "title": LONG, "tags": ["a", LONG, *map(str, range(90_000))],
        "contentType": LONG, "orderId": LONG, "createdAt": LONG, "source": LONG,
        "geospatialMetadataExtractionStatus": LONG,
    }  # fmt: skip
    asset = schema.parse_asset(row)
    assert asset is not None
    assert asset.name is not None
    assert len(asset.name) == schema.MOST_TEXT
    assert (asset.title, asset.order_id, asset.source) == (None,) * 3
    assert asset.tags[0] == "a"
    assert len(asset.tags) <= schema.MOST_STRINGS
    assert max(map(len, asset.tags)) <= schema.MOST_TAG
    for parse_row in (schema.parse_asset, schema.parse_order):
        assert parse_row({"id": LONG}) is None
    item = schema.parse_item(
        {
            "id": "i",
            "properties": {"title": LONG, "up42-user:tags": [LONG], "datetime": LONG},
            "assets": {LONG: {"href": "x"}, "b": {"href": f"{API}/v2/assets/{LONG}"}}
            | {str(n): {"href": "x"} for n in range(9000)},
        },
        API,
    )
    assert item is not None
    assert (item.title, item.user_tags, item.datetime) == (None, (), None)
    assert len(item.assets) <= schema.MOST_FILES
    (one,) = (file for file in item.assets if file.key == "b")
    assert one.asset_id is None
    assert one.refusal == "its link is longer than 8192 characters"


@pytest.mark.claim("S142")
def test_what_is_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    oddities = Oddities()
    oddities.parse_asset({"id": "a1", "name": "n", "title": LONG, "tags": ["a", LONG]})
    oddities.parse_order({"id": "o1", "displayName": LONG})
    told = [record.getMessage() for record in caplog.records]
    assert any("asset 'a1': its title cannot be used: 'xxx" in line for line in told)
    assert any("asset 'a1': 1 of its tags are too many or too long" in line for line in told)
    assert any("order 'o1': its name cannot be used" in line for line in told)
    assert max(map(len, told)) < 300


@pytest.mark.claim("S142")
def test_no_address_is_without_end() -> None:
    assert not links.is_safe_link(f"https://store/{LONG}", API)
    assert links.asset_id_of_href(f"{API}/v2/assets/{LONG}", API)[0] is None
    with pytest.raises(InvalidArgument) as caught:
        links.segment(LONG)
    assert len(str(caught.value)) < 2000
    with pytest.raises(InvalidAnswer):
        links.next_link([{"rel": "next", "href": f"{API}/v2/x?{LONG}"}], API, sent_body=None)


@pytest.mark.claim("S142")
def test_an_outline_has_an_end() -> None:
    ring = [[n % 180, n % 90] for n in range(geojson.MOST_POSITIONS - 1)]
    ring.append(ring[0])
    assert geojson.is_geometry({"type": "Polygon", "coordinates": [ring]})
    assert not geojson.is_geometry({"type": "Polygon", "coordinates": [ring * 3]})
    many = {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]}
    assert geojson.is_geometry(many)
    assert not geojson.is_geometry(many | {"geometries": many["geometries"] * 200_000})


def test_httpx_still_unpacks_nothing_itself() -> None:
    """`bounds` unpacks: what is asked for is what it can."""
    from up42fs.api.network import make_http

    http = make_http(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    assert http.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.claim("S142")
def test_what_would_delete_tags_is_not_read_for_an_edit() -> None:
    """An edit writes all tags: with some of them left out it would delete those."""
    from up42fs.api.client import _only

    row = {"id": "i", "tags": ["a", LONG]}
    asset = schema.parse_asset(row)
    with pytest.raises(InvalidAnswer, match="too many tags, or too long ones"):
        _only(asset, row, "i", "asset")
    item_row = {"id": "i", "properties": {"up42-user:tags": ["a", LONG]}}
    item = schema.parse_item(item_row, API)
    with pytest.raises(InvalidAnswer, match="too many tags"):
        _only(item, item_row, "i", "STAC item")
    assert _only(asset, row | {"tags": ["a"]}, "i", "asset") is asset


async def test_no_generator_of_httpx_is_left_to_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "LARGEST_ANSWER_BYTES", 10)
    left: list[str] = []

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"1" * 50)
        await stream.receive_some()  # the rest of the body never comes

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        async with make_http(environ={}) as http:
            transport = ApiTransport(http, plane=retry.Plane.API, metrics=Metrics())
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with pytest.raises(Up42fsError), within(0.3, "late"):
                    await transport.fetch(Call("asking", "GET", f"http://127.0.0.1:{port}/"))
                gc.collect()
                left += [str(warning.message) for warning in caught]
        nursery.cancel_scope.cancel()
    assert left == []
