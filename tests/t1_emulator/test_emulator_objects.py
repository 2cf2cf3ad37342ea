"""The object store: links, headers it refuses, ranges, conditions, what it says of objects."""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from emulator_support import (
    BIG,
    BIG_BYTES,
    BIG_SEED,
    EMPTY,
    FILE,
    FILE_SEED,
    NOTE,
    NOTE_BYTES,
    Emulator,
    Start,
)

from up42fs.emulator import pattern_bytes

BIG_DATA = pattern_bytes(BIG_SEED, 0, BIG_BYTES)


def _code(answer: httpx.Response) -> str:
    assert answer.headers["content-type"].startswith("application/xml")
    return answer.text.split("<Code>")[1].split("</Code>")[0]


async def test_a_whole_object_with_googles_headers(emulator: Emulator) -> None:
    answer = await emulator.fetch(BIG)
    assert (answer.status_code, answer.content == BIG_DATA) == (200, True)
    headers = answer.headers
    assert headers["accept-ranges"] == "bytes"
    assert headers["server"] == "UploadServer"
    assert headers["content-disposition"] == "attachment; filename=big.zip"
    assert headers["x-goog-stored-content-length"] == str(BIG_BYTES)
    assert headers["x-goog-stored-content-encoding"] == "identity"
    assert int(headers["x-goog-generation"]) > 0
    assert headers["etag"].startswith('"')
    assert headers["last-modified"] == "Fri, 01 Mar 2024 10:00:00 GMT"
    assert "x-goog-hash" not in headers  # a composite object has no MD5
    note = await emulator.fetch(NOTE)
    assert note.headers["etag"] == f'"{hashlib.md5(NOTE_BYTES).hexdigest()}"'
    assert note.headers["x-goog-hash"].startswith("md5=")


@pytest.mark.parametrize(
    ("switch", "header"),
    [
        ("no_etag", "etag"),
        ("no_last_modified", "last-modified"),
        ("no_generation", "x-goog-generation"),
    ],
)
async def test_a_store_may_name_no_version(start: Start, switch: str, header: str) -> None:
    plain = await start()
    silent = await start(**{switch: True})
    for range_header in ({}, {"Range": "bytes=0-9"}):
        named = set((await plain.fetch(BIG, **range_header)).headers)
        unnamed = set((await silent.fetch(BIG, **range_header)).headers)
        assert named - unnamed == {header}


async def test_stac_assets_are_signed_and_read_the_same_way(emulator: Emulator) -> None:
    answer = await emulator.fetch(FILE, Range="bytes=500-1499")
    assert answer.content == pattern_bytes(FILE_SEED, 500, 1000)


@pytest.mark.parametrize(
    ("text", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1048570-1048590", 1048570, 1048591),
        ("bytes=100-", 100, BIG_BYTES),
        ("bytes=-7", BIG_BYTES - 7, BIG_BYTES),
        (f"bytes=-{BIG_BYTES * 2}", 0, BIG_BYTES),
        (f"bytes=10-{BIG_BYTES * 2}", 10, BIG_BYTES),
    ],
)
async def test_ranges(emulator: Emulator, text: str, first: int, stop: int) -> None:
    answer = await emulator.fetch(BIG, Range=text)
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {first}-{stop - 1}/{BIG_BYTES}"
    assert answer.headers["content-length"] == str(stop - first)
    assert answer.content == BIG_DATA[first:stop]


async def test_unsatisfiable_and_ignored_ranges(emulator: Emulator) -> None:
    for asset_id, text in ((BIG, f"bytes={BIG_BYTES}-"), (EMPTY, "bytes=0-0"), (BIG, "bytes=-0")):
        answer = await emulator.fetch(asset_id, Range=text)
        assert (answer.status_code, _code(answer)) == (416, "InvalidRange")
    for text in ("bytes=0-1,5-6", "nonsense"):
        answer = await emulator.fetch(NOTE, Range=text)
        assert (answer.status_code, answer.content) == (200, NOTE_BYTES)
    assert (await emulator.fetch(EMPTY)).content == b""


async def test_head_is_the_head_of_get(emulator: Emulator) -> None:
    url = await emulator.sign(BIG)
    head = await emulator.client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(BIG_BYTES)
    ranged = await emulator.client.head(url, headers={"Range": "bytes=0-9"})
    assert (ranged.status_code, ranged.headers["content-length"]) == (206, "10")
    (record,) = await emulator.log("?route=store.head&since=3")
    assert (record["bytes_sent"], record["status"]) == (0, 206)


async def test_conditions(emulator: Emulator) -> None:
    whole = await emulator.fetch(NOTE)
    etag, modified = whole.headers["etag"], whole.headers["last-modified"]
    early, late = "Fri, 01 Mar 2019 10:00:00 GMT", "Fri, 01 Mar 2030 10:00:00 GMT"
    cases = [
        ({"If-Match": etag, "Range": "bytes=0-0"}, 206),
        ({"If-Match": f'"x", {etag}'}, 200),
        ({"If-Match": '"other"', "Range": "bytes=0-0"}, 412),
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": early}, 200),
        ({"If-Modified-Since": "gibberish"}, 200),
        ({"If-Unmodified-Since": early}, 412),
        ({"If-Unmodified-Since": late}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": modified}, 200),
    ]
    for headers, status in cases:
        answer = await emulator.fetch(NOTE, **headers)
        assert answer.status_code == status, headers
        if status == 304:
            assert (answer.content, answer.headers["etag"]) == (b"", etag)
        if status == 412:
            assert _code(answer) == "PreconditionFailed"
    await emulator.faults(ignore_conditions=True)
    assert (await emulator.fetch(NOTE, **{"If-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize("style", ["v2", "v4"])
@pytest.mark.parametrize(
    "header",
    ["Authorization", "Content-Type", "Content-MD5", "x-goog-meta-a", "X-Goog-User-Project"],
)
async def test_headers_that_were_not_signed_are_refused(
    start: Start, style: str, header: str
) -> None:
    emulator = await start(link_style=style)
    answer = await emulator.fetch(NOTE, **{header: "x"})
    if header == "Authorization":
        assert (answer.status_code, _code(answer)) == (400, "InvalidArgument")
    elif style == "v4" and header.lower().startswith("x-goog"):
        assert (answer.status_code, _code(answer)) == (400, "MalformedSecurityHeader")
    else:
        assert (answer.status_code, _code(answer)) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("style", ["v2", "v4"])
async def test_altered_links_and_other_methods_are_refused(start: Start, style: str) -> None:
    emulator = await start(link_style=style)
    url = await emulator.sign(NOTE)
    assert (await emulator.client.get(url)).content == NOTE_BYTES
    other = (await emulator.sign(BIG)).partition("?")[0]
    life = (
        ("Expires=", "Expires=9") if style == "v2" else ("X-Goog-Expires=300", "X-Goog-Expires=999")
    )
    for altered in (
        url.replace(*life),
        other + "?" + url.partition("?")[2],
        url[:-8] + ("A" * 8 if not url.endswith("A" * 8) else "B" * 8),
    ):
        answer = await emulator.client.get(altered)
        assert (answer.status_code, _code(answer)) == (403, "SignatureDoesNotMatch"), altered
    for method in ("PUT", "POST", "DELETE"):
        answer = await emulator.client.request(method, url)
        assert (answer.status_code, _code(answer)) == (403, "SignatureDoesNotMatch")
    bare = await emulator.client.get(url.partition("?")[0])
    assert (bare.status_code, _code(bare)) == (403, "AccessDenied")


async def test_v2_and_v4_links_say_when_they_end(start: Start) -> None:
    emulator = await start(link_life_s=60.0)
    answer = await emulator.api("POST", f"/v2/assets/{NOTE}/download-url")
    parts = urlsplit(answer.json()["url"])
    assert parts.path.startswith("/user-storage-interstellar-prod/assets/")
    query = parse_qs(parts.query)
    assert set(query) == {"response-content-disposition", "GoogleAccessId", "Expires", "Signature"}
    await emulator.faults(link_style="v4")
    query = parse_qs(urlsplit(await emulator.sign(NOTE)).query)
    assert query["X-Goog-Expires"] == ["60"]
    assert query["X-Goog-Date"][0].endswith("Z")
    assert query["response-content-disposition"] == ["attachment; filename=note.txt"]


@pytest.mark.parametrize("style", ["v2", "v4"])
async def test_expired_links(start: Start, style: str) -> None:
    emulator = await start(link_style=style)
    url = await emulator.sign(NOTE)
    await emulator.faults(date_skew_s=290.0)  # v2 counts in whole seconds, and machines are busy
    assert (await emulator.client.get(url)).status_code == 200
    await emulator.faults(date_skew_s=301.0)
    new = await emulator.client.get(url)
    assert (new.status_code, _code(new)) == (400, "ExpiredToken")
    assert "<Message>Invalid argument.</Message>" in new.text
    await emulator.faults(expired_wording="old")
    old = await emulator.client.get(url, headers={"Range": "bytes=0-0"})
    assert "<Message>The provided token has expired.</Message>" in old.text
    head = await emulator.client.head(url)
    assert (head.status_code, head.content) == (400, b"")


async def test_a_running_answer_outlives_its_link(start: Start) -> None:
    emulator = await start(link_life_s=300.0, stall_body_at=1000, stall_s=60.0)
    url = await emulator.sign(BIG)
    async with emulator.client.stream("GET", url) as answer:
        assert answer.status_code == 200
        await emulator.faults(date_skew_s=1000.0, stall_s=0.0)
        assert (await emulator.client.get(url)).status_code == 400


async def test_dates_follow_the_skew_on_all_planes(start: Start) -> None:
    from email.utils import parsedate_to_datetime

    emulator = await start()
    plain = await emulator.fetch(NOTE)
    await emulator.faults(date_skew_s=-86400.0)
    await emulator.sign_in()
    skewed = await emulator.fetch(NOTE)
    api = await emulator.api("GET", "/v2/orders")
    times = [parsedate_to_datetime(a.headers["date"]).timestamp() for a in (plain, skewed, api)]
    assert times[0] - times[1] == pytest.approx(86400, abs=60)
    assert times[1] == pytest.approx(times[2], abs=60)


async def test_replaced_and_removed_objects(emulator: Emulator) -> None:
    url = await emulator.sign(NOTE)
    old = await emulator.client.get(url)
    changed = await emulator.op("replace_object", id=NOTE, seed=9)
    new = await emulator.client.get(url)
    assert new.content == pattern_bytes(9, 0, len(NOTE_BYTES))
    assert new.headers["etag"] == changed["etag"] != old.headers["etag"]
    assert new.headers["x-goog-generation"] > old.headers["x-goog-generation"]
    guarded = await emulator.client.get(url, headers={"If-Match": old.headers["etag"]})
    assert guarded.status_code == 412
    grown = await emulator.op("replace_object", id=NOTE, seed=9, size=500)
    assert grown["size"] == (await emulator.get(f"/v2/assets/{NOTE}/metadata"))["size"] == 500
    await emulator.op("remove_object", id=NOTE)
    gone = await emulator.client.get(url)
    assert (gone.status_code, _code(gone)) == (404, "NoSuchKey")
    assert (await emulator.fetch(NOTE)).status_code == 404  # a link can still be had


@pytest.mark.parametrize(("switch", "text"), [("no", "=note.txt"), ("yes", '="note.txt"')])
async def test_dispositions(start: Start, switch: str, text: str) -> None:
    emulator = await start(quoted_disposition=switch)
    answer = await emulator.fetch(NOTE)
    assert answer.headers["content-disposition"] == f"attachment; filename{text}"
