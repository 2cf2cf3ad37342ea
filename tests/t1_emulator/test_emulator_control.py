"""The control endpoint, its client, the journal; keep-alive and other manners of the wire."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
from emulator_support import BIG, FORM, NOTE, TOKEN_PATH, Emulator

from up42fs.emulator import Remote, pattern_bytes
from up42fs.emulator.remote import ControlError


async def test_the_journal_counts_requests_by_plane_and_route(emulator: Emulator) -> None:
    await emulator.fetch(BIG, Range="bytes=5-9")
    records = await emulator.log()
    assert [(r["plane"], r["route"], r["status"]) for r in records] == [
        ("auth", "auth.token", 200), ("api", "assets.sign", 200), ("store", "store.get", 206),
    ]  # fmt: skip
    got = records[2]
    assert (got["object_id"], got["range"], got["bytes_sent"]) == (BIG, "bytes=5-9", 5)
    assert records[1]["object_id"] == BIG
    assert [r["position"] for r in records] == [0, 1, 2]
    answer = await emulator.control("GET", "/log?since=2")
    assert (answer["next"], len(answer["requests"])) == (3, 1)
    await emulator.control("DELETE", "/log")
    assert await emulator.log() == []
    await emulator.get("/v2/orders", page=0)
    (record,) = await emulator.log("?plane=api")
    assert (record["position"], record["query"]) == (3, "page=0")


async def test_the_journal_holds_no_secret(emulator: Emulator) -> None:
    url = await emulator.sign(NOTE)
    await emulator.client.get(url)
    await emulator.client.get(url, headers={"Authorization": f"Bearer {emulator.token}"})
    text = json.dumps(await emulator.log())
    for secret in (emulator.token, FORM["username"], "Signature", "GoogleAccessId"):
        assert secret not in text
    summary = json.dumps(await emulator.control("GET", "/storage"))
    assert "Signature" not in summary
    assert FORM["username"] not in summary


async def test_bytes_sent_are_complete_when_the_client_has_them(emulator: Emulator) -> None:
    for _ in range(20):
        content = (await emulator.fetch(BIG)).content
        record = (await emulator.log("?route=store.get"))[-1]
        assert record["bytes_sent"] == len(content)


async def test_a_connection_is_kept(emulator: Emulator) -> None:
    for _ in range(3):
        await emulator.get("/v2/assets")
    connections = {r["connection_id"] for r in await emulator.log("?route=assets.list")}
    assert len(connections) == 1
    await emulator.api("GET", "/v2/assets", headers={"Connection": "close"})
    await emulator.get("/v2/assets")
    connections = {r["connection_id"] for r in await emulator.log("?route=assets.list")}
    assert len(connections) == 2


async def test_unknown_operations_ids_and_fields_are_refused(emulator: Emulator) -> None:
    async def post(body: Any) -> int:
        url = emulator.urls.control_url + "/storage"
        return (await emulator.client.post(url, json=body)).status_code

    assert await post({"op": "explode"}) == 400
    assert await post([1]) == 400
    assert await post({"op": "remove_asset", "id": "nothing"}) == 404
    assert await post({"op": "remove_asset", "colour": "red"}) == 400
    url = emulator.urls.control_url + "/faults"
    assert (await emulator.client.patch(url, json={"nope": 1})).status_code == 400


async def test_assets_and_orders_appear_change_and_go(emulator: Emulator) -> None:
    order = await emulator.op("add_order", display_name="Late", status="BEING_FULFILLED")
    added = await emulator.op("add_asset", name="late.zip", size=1000, seed=3, order_id=order["id"],
                              tags=["t"], created_at="2024-05-05T00:00:00Z")  # fmt: skip
    found = await emulator.get("/v2/assets", search=order["id"])
    assert [row["id"] for row in found["content"]] == [added["id"]]
    assert found["content"][0]["createdAt"] == "2024-05-05T00:00:00.000000Z"
    assert (await emulator.fetch(added["id"])).content == pattern_bytes(3, 0, 1000)
    await emulator.op("progress_order", id=order["id"], status="FULFILLED")
    assert (await emulator.get(f"/v2/orders/{order['id']}"))["status"] == "FULFILLED"
    await emulator.op("set_metadata", id=added["id"], title="T", tags=["v", "x"])
    changed = await emulator.op("edit_tags", id=added["id"], add=["u", "x"], remove=["v"])
    assert changed["tags"] == ["x", "u"]
    await emulator.op("edit_tags", id=added["id"], remove=["x"])
    row = await emulator.get(f"/v2/assets/{added['id']}/metadata")
    assert (row["title"], row["tags"]) == ("T", ["u"])
    await emulator.op("remove_asset", id=added["id"])
    assert (await emulator.get("/v2/assets", search=order["id"]))["content"] == []
    exact = await emulator.op("add_asset", name="b", content_base64="aGk=")
    assert (await emulator.fetch(exact["id"])).content == b"hi"


async def test_a_transformation_makes_items_appear(emulator: Emulator) -> None:
    async def items() -> list[dict[str, Any]]:
        body = {"filter": {"op": "=", "args": [{"property": "asset_id"}, NOTE]}}
        answer = await emulator.api("POST", "/v2/assets/stac/search", json=body)
        return list(answer.json()["features"])

    assert await items() == []
    await emulator.op("set_cnam_status", id=NOTE, status="IN_PROGRESS")
    assert await items() == []
    before = (await emulator.get(f"/v2/assets/{NOTE}/metadata"))["updatedAt"]
    await emulator.op("set_cnam_status", id=NOTE, status="SUCCESSFUL")
    (item,) = await items()
    assert item["properties"]["up42-system:metadata_version"] == "0.0.14"
    assert (await emulator.get(f"/v2/assets/{NOTE}/metadata"))["updatedAt"] > before
    file_id = item["assets"]["image.tiff"]["href"].rpartition("/")[2]
    assert len((await emulator.fetch(file_id)).content) == 5
    await emulator.op("set_cnam_status", id=NOTE, status="SUCCESSFUL")
    assert [again["id"] for again in await items()] == [item["id"]]


async def test_remote_does_all_of_it_from_a_thread(emulator: Emulator) -> None:
    remote = Remote(emulator.urls.control_url)

    def use() -> None:
        assert remote.count("auth.token") == 1
        position = remote.position()
        assert remote.faults(fail_status=503)["fail_status"] == 503
        assert remote.faults()["fail_status"] == 503
        assert remote.storage("add_asset", name="x")["name"] == "x"
        names = {row["name"] for row in remote.storage()["assets"]}
        assert names == {"big.zip", "note.txt", "empty.bin", "x"}
        digests = {row["name"]: row["sha256"] for row in remote.storage(sha256=True)["objects"]}
        assert digests["note.txt"].startswith("b94d27b9934d3e08")  # sha256 of hello world
        assert remote.log(position) == []
        remote.clear()
        assert remote.log() == []
        with pytest.raises(ControlError, match="no such switch"):
            remote.faults(nothing=1)

    await trio.to_thread.run_sync(use)


async def test_malformed_requests_end_the_connection_not_the_server(emulator: Emulator) -> None:
    port = int(emulator.urls.api_url.rpartition(":")[2])
    for garbage in (b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00"):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(garbage + b"\r\n\r\n")
            with trio.fail_after(5):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 4")
                assert await stream.receive_some() == b""
    assert (await emulator.api("GET", "/v2/assets")).status_code == 200


async def test_a_client_that_leaves_in_the_middle_does_no_harm(emulator: Emulator) -> None:
    huge = await emulator.op("add_asset", name="huge", size=8 << 30, seed=4)
    url = await emulator.sign(huge["id"])
    parts = httpx.URL(url)
    for _ in range(3):
        stream = await trio.open_tcp_stream(parts.host, parts.port or 80)
        async with stream:
            await stream.send_all(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % parts.raw_path)
            assert f"Content-Length: {8 << 30}".encode() in await stream.receive_some()
    far = {"Range": f"bytes={7 << 30}-{(7 << 30) + 99}"}
    ranged = await emulator.client.get(url, headers=far)
    assert ranged.content == pattern_bytes(4, 7 << 30, 100)


async def test_expect_continue_and_large_forms(emulator: Emulator) -> None:
    port = int(emulator.urls.auth_url.rpartition(":")[2])
    body = "&".join(f"{key}={value}" for key, value in FORM.items()).encode()
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        head = (
            f"POST {TOKEN_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n\r\n"
        )
        await stream.send_all(head.encode())
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
            await stream.send_all(body)
            assert b" 200 " in (await stream.receive_some())[:16]
