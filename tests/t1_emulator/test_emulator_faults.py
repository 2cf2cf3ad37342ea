"""Each fault switch does what it says, to the requests it selects and to no other."""

from __future__ import annotations

import json
from dataclasses import fields

import httpx
import pytest
import trio
from emulator_support import (
    BIG,
    BIG_BYTES,
    BIG_SEED,
    NOTE,
    NOTE_BYTES,
    Emulator,
    Start,
)

from up42fs.emulator import Faults, pattern_bytes
from up42fs.emulator.faults import BadSwitchError, FaultBox
from up42fs.emulator.storage import stable_id

BIG_DATA = pattern_bytes(BIG_SEED, 0, BIG_BYTES)


async def _raw(emulator: Emulator, asset_id: str, range_header: str | None = None) -> bytes:
    """Fetch over a bare socket until the server ends the connection; b"RESET" at its end if so."""
    url = httpx.URL(await emulator.sign(asset_id))
    stream = await trio.open_tcp_stream(url.host, url.port or 80)
    received = bytearray()
    async with stream:
        lines = [f"GET {url.raw_path.decode()} HTTP/1.1", f"Host: {url.host}"]
        if range_header:
            lines.append(f"Range: {range_header}")
        await stream.send_all(("\r\n".join(lines) + "\r\n\r\n").encode())
        try:
            with trio.fail_after(20):
                while data := await stream.receive_some(1 << 20):
                    received += data
        except trio.BrokenResourceError:
            received += b"RESET"
    return bytes(received)


def _body(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


# -- which requests are struck


def test_counts_shares_and_selectors() -> None:
    box = FaultBox(Faults(fail_status=503, fail_plane="store", fail_skip=1, fail_next=2))
    hits = [box.strike(*args) for args in (
        ("api", "assets.list", None), ("store", "store.get", "a"), ("store", "store.get", "a"),
        ("store", "store.head", "b"), ("store", "store.get", "a"))]  # fmt: skip
    assert hits == [False, False, True, True, False]
    box = FaultBox(Faults(fail_status=500, fail_route="store.get", fail_object="a"))
    assert [box.strike("store", "store.get", x) for x in ("a", "b", None)] == [True, False, False]
    box = FaultBox(Faults(fail_status=500, fail_share=0.25, fail_seed=7))
    shares = [box.strike("api", "x", None) for _ in range(2000)]
    assert 400 < sum(shares) < 600
    again = FaultBox(Faults(fail_status=500, fail_share=0.25, fail_seed=7))
    assert shares == [again.strike("api", "x", None) for _ in range(2000)]


def test_counts_stay_while_nothing_is_armed() -> None:
    box = FaultBox(Faults(fail_next=1))
    assert not box.strike("api", "x", None)
    box.patch({"fail_status": 500})
    assert [box.strike("api", "x", None) for _ in range(2)] == [True, False]
    assert box.faults.fail_next == 0


@pytest.mark.parametrize(
    "changes",
    [{"no_such": 1}, {"fail_status": "503"}, {"error_shape": "odd"}, {"link_life_s": None},
     {"fail_plane": "moon"}, {"gzip_objects": 1}],
)  # fmt: skip
def test_bad_switches_change_nothing(changes: dict[str, object]) -> None:
    box = FaultBox(Faults())
    with pytest.raises(BadSwitchError):
        box.patch({"fail_status": 500, **changes})
    assert box.faults == Faults()


def test_every_switch_has_help() -> None:
    assert all(item.metadata["help"] for item in fields(Faults))


# -- status faults


@pytest.mark.parametrize("status", [401, 403, 404, 409, 410, 412, 416, 429, 500, 503])
async def test_fail_status_then_success(emulator: Emulator, status: int) -> None:
    await emulator.faults(fail_status=status, fail_next=2, fail_route="assets.list")
    got = [(await emulator.api("GET", "/v2/assets")).status_code for _ in range(3)]
    assert got == [status, status, 200]
    assert (await emulator.control("GET", "/faults"))["fail_next"] == 0
    records = await emulator.log("?route=assets.list")
    assert [record["status"] for record in records] == got


async def test_502_is_no_json_and_bodies_may_be_empty(emulator: Emulator) -> None:
    await emulator.faults(fail_status=502, fail_plane="api")
    answer = await emulator.api("GET", "/v2/assets")
    assert answer.headers["content-type"] == "text/html"
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    await emulator.faults(fail_status=503, fail_body="empty")
    assert (await emulator.api("GET", "/v2/assets")).content == b""


async def test_retry_after_three_ways(emulator: Emulator) -> None:
    await emulator.faults(fail_status=429)
    assert "retry-after" not in (await emulator.api("GET", "/v2/assets")).headers
    await emulator.faults(retry_after="7")
    assert (await emulator.api("GET", "/v2/assets")).headers["retry-after"] == "7"
    await emulator.faults(retry_after="date:30")
    assert (await emulator.api("GET", "/v2/assets")).headers["retry-after"].endswith("GMT")


async def test_random_stac_401(emulator: Emulator) -> None:
    await emulator.faults(stac_random_401_share=0.5)
    got = [(await emulator.api("GET", "/v2/assets/stac/")).status_code for _ in range(40)]
    assert set(got) == {200, 401}
    assert (await emulator.api("GET", "/v2/assets")).status_code == 200


async def test_faults_can_strike_the_identity_server(emulator: Emulator) -> None:
    await emulator.faults(fail_status=500, fail_plane="auth", fail_next=1)
    with pytest.raises(KeyError):
        await emulator.sign_in()
    await emulator.sign_in()
    assert (await emulator.api("GET", "/v2/assets")).status_code == 200


# -- wire faults


async def test_reset_before_headers(emulator: Emulator) -> None:
    await emulator.faults(reset_before_headers=True, fail_next=1, fail_plane="store")
    assert await _raw(emulator, NOTE) == b"RESET"
    (record,) = await emulator.log("?plane=store")
    assert (record["status"], record["bytes_sent"]) == (0, 0)
    assert (await emulator.fetch(NOTE)).content == NOTE_BYTES


@pytest.mark.parametrize("at", [0, 1, 70_000, 2_000_000])
async def test_cut_body(emulator: Emulator, at: int) -> None:
    await emulator.faults(cut_body_at=at, fail_plane="store")
    raw = await _raw(emulator, BIG)
    assert f"Content-Length: {BIG_BYTES}".encode().lower() in raw.lower()
    body = _body(raw)
    assert body.endswith(b"RESET")
    # A reset may overtake bytes still under way; none beyond the cut may come.
    assert BIG_DATA[:at].startswith(body[: -len(b"RESET")])


async def test_a_cut_beyond_the_end_cuts_nothing(emulator: Emulator) -> None:
    await emulator.faults(cut_body_at=BIG_BYTES + 1, fail_plane="store")
    assert (await emulator.fetch(BIG)).content == BIG_DATA


async def test_short_body_closes_cleanly(emulator: Emulator) -> None:
    await emulator.faults(short_body=5, fail_plane="store")
    assert _body(await _raw(emulator, BIG, "bytes=0-99")) == BIG_DATA[:95]
    with pytest.raises(httpx.RemoteProtocolError):
        await emulator.fetch(NOTE)


async def test_too_long_body(emulator: Emulator) -> None:
    await emulator.faults(too_long_body=6, fail_plane="store")
    assert _body(await _raw(emulator, NOTE)) == NOTE_BYTES + b"\xff" * 6


async def test_stalls(emulator: Emulator) -> None:
    await emulator.faults(stall_before_headers_s=1000.0, fail_plane="store", fail_next=1)
    url = await emulator.sign(NOTE)
    with pytest.raises(httpx.ReadTimeout):
        await emulator.client.get(url, timeout=0.2)
    await emulator.faults(stall_before_headers_s=0.0, stall_body_at=4, stall_s=1000.0, fail_next=1)
    got = bytearray()

    async def read() -> None:
        async with emulator.client.stream("GET", url, timeout=0.2) as answer:
            async for data in answer.aiter_raw():
                got.extend(data)

    with pytest.raises(httpx.ReadTimeout):
        await read()
    assert got == NOTE_BYTES[:4]
    assert (await emulator.client.get(url)).content == NOTE_BYTES


async def test_drip_and_bandwidth_set_the_pace(emulator: Emulator) -> None:
    await emulator.faults(drip_bytes_s=50.0, fail_plane="store")
    started = trio.current_time()
    assert (await emulator.fetch(NOTE)).content == NOTE_BYTES
    assert trio.current_time() - started >= 0.2  # 11 bytes at 50 a second
    await emulator.faults(drip_bytes_s=None, bandwidth_bytes_s=10e6)
    started = trio.current_time()
    assert (await emulator.fetch(BIG)).content == BIG_DATA
    assert trio.current_time() - started >= 0.25


async def test_latency_by_plane(emulator: Emulator) -> None:
    await emulator.faults(
        latency_s=5.0, api_latency_s=0.0, auth_latency_s=0.0, store_latency_s=0.15
    )
    started = trio.current_time()
    await emulator.fetch(NOTE)
    assert 0.15 <= trio.current_time() - started < 4.0


async def test_a_client_that_leaves_a_stall_leaves_nothing_behind(
    start: Start, nursery: trio.Nursery
) -> None:
    emulator = await start(stall_before_headers_s=10_000.0, fail_plane="store")
    url = await emulator.sign(NOTE)
    await trio.testing.wait_all_tasks_blocked()
    before = trio.lowlevel.current_statistics().tasks_living
    for _ in range(5):
        with pytest.raises(httpx.ReadTimeout):
            await emulator.client.get(url, timeout=0.05)
    with trio.fail_after(5):
        while trio.lowlevel.current_statistics().tasks_living > before:
            await trio.sleep(0.01)


# -- what the object store says wrongly


async def test_wrong_content_range_and_total(emulator: Emulator) -> None:
    await emulator.faults(wrong_content_range=True)
    answer = await emulator.fetch(BIG, Range="bytes=10-19")
    assert answer.headers["content-range"] == f"bytes 11-20/{BIG_BYTES}"
    assert answer.content == BIG_DATA[10:20]
    await emulator.faults(wrong_content_range=False, wrong_total=True)
    answer = await emulator.fetch(BIG, Range="bytes=10-19")
    assert answer.headers["content-range"] == f"bytes 10-19/{BIG_BYTES + 4096}"


async def test_ignored_range(emulator: Emulator) -> None:
    await emulator.faults(ignore_range=True)
    answer = await emulator.fetch(NOTE, Range="bytes=1-2")
    assert (answer.status_code, answer.content) == (200, NOTE_BYTES)
    assert "content-range" not in answer.headers


async def test_gzip_trap(emulator: Emulator) -> None:
    await emulator.faults(gzip_objects=True)
    answer = await emulator.fetch(BIG, Range="bytes=1-2")
    assert (answer.status_code, answer.content == BIG_DATA) == (200, True)
    assert answer.headers["x-goog-stored-content-encoding"] == "gzip"
    assert "content-length" not in answer.headers
    assert "x-goog-stored-content-length" not in answer.headers
    await emulator.faults(cut_body_at=1_500_000, fail_plane="store")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await emulator.fetch(BIG)


async def test_moved_etag(emulator: Emulator) -> None:
    etag = (await emulator.fetch(NOTE)).headers["etag"]
    await emulator.faults(other_etag=True, fail_skip=1, fail_route="store.get")
    guarded = {"If-Match": etag, "Range": "bytes=0-1"}
    assert [(await emulator.fetch(NOTE, **guarded)).status_code for _ in range(2)] == [206, 412]
    assert (await emulator.fetch(NOTE, Range="bytes=0-1")).headers["etag"] != etag


async def test_redirected_store(emulator: Emulator) -> None:
    await emulator.faults(redirect_store=True)
    url = await emulator.sign(NOTE)
    first = await emulator.client.get(url)
    assert first.status_code == 302
    followed = await emulator.client.get(url, follow_redirects=True)
    assert followed.content == NOTE_BYTES
    records = await emulator.log("?plane=store")
    assert {record["object_id"] for record in records} == {NOTE}


async def test_refused_head_and_bad_content_types(emulator: Emulator) -> None:
    await emulator.faults(head_refused=True, bad_content_type=True)
    url = await emulator.sign(NOTE)
    assert (await emulator.client.head(url)).status_code == 403
    assert (await emulator.client.get(url)).headers["content-type"] == "text/html"
    assert (await emulator.api("GET", "/v2/assets")).headers["content-type"] == "text/html"


# -- edits: what the service did, whatever the client hears of it


async def _tags(emulator: Emulator) -> list[str] | None:
    storage = await emulator.control("GET", "/storage")
    return next(row["tags"] for row in storage["assets"] if row["id"] == BIG)


async def _edit(emulator: Emulator, by_stac: bool, tag: str) -> httpx.Response:
    if not by_stac:
        return await emulator.api("POST", f"/v2/assets/{BIG}/metadata", json={"tags": [tag]})
    path = f"/v2/assets/stac/collections/{stable_id('collection')}/items/{stable_id('item')}"
    return await emulator.api("PATCH", path, json={"up42-user:tags": [tag]})


@pytest.mark.parametrize("by_stac", [False, True], ids=["post", "patch"])
async def test_an_edit_is_lost_or_carried_out_by_switch(emulator: Emulator, by_stac: bool) -> None:
    route = "stac.update" if by_stac else "assets.update"
    await emulator.faults(fail_route=route)
    for status in (400, 403, 404, 409, 429, 500, 504):
        await emulator.faults(fail_status=status, fail_next=1)
        assert (await _edit(emulator, by_stac, f"lost {status}")).status_code == status
        assert f"lost {status}" not in (await _tags(emulator) or [])
        await emulator.faults(fail_status=status, fail_next=1, fail_applied=True)
        assert (await _edit(emulator, by_stac, f"kept {status}")).status_code == status
        assert await _tags(emulator) == [f"kept {status}"]
        await emulator.faults(fail_applied=False)
    await emulator.faults(fail_status=None, fail_next=2)
    for switch, applied in (("drop_request", False), ("reset_before_headers", True)):
        await emulator.faults(fail_next=1, **{switch: True})
        with pytest.raises(httpx.TransportError):
            await _edit(emulator, by_stac, switch)
        assert (await _tags(emulator) == [switch]) is applied
        await emulator.faults(**{switch: False})
