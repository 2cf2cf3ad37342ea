"""A small known storage and a signed-in client, for the tests of the emulator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from up42fs.emulator import EmulatedAccount, Storage, Urls
from up42fs.emulator.clock import US, parse_us
from up42fs.emulator.content import BytesContent, PatternContent
from up42fs.emulator.storage import (
    Collection,
    EmulatedAsset,
    EmulatedOrder,
    Item,
    StacFile,
    stable_id,
)

ACCOUNT = EmulatedAccount("demo@up42fs.example", "demo")
TOKEN_PATH = "/realms/public/protocol/openid-connect/token"
FORM = {
    "grant_type": "password",
    "username": ACCOUNT.username,
    "password": ACCOUNT.password,
    "client_id": "up42-api",
}
#: Assets of the small storage: name, seed and size of its pattern; `note` is 11 real bytes.
BIG, BIG_SEED, BIG_BYTES = stable_id("big"), 5, (3 << 20) + 17
NOTE, NOTE_BYTES = stable_id("note"), b"hello world"
EMPTY = stable_id("empty")
FILE, FILE_SEED, FILE_BYTES = stable_id("file"), 6, 100_000


def small_storage() -> Storage:
    """One order, three assets: a transformed one, a tiny one, an empty one."""
    storage = Storage(ACCOUNT)
    start_us = parse_us("2024-03-01T10:00:00.123456Z")
    ids = (ACCOUNT.workspace_id, ACCOUNT.account_id)
    order = EmulatedOrder(
        stable_id("order"), "One/Order", "FULFILLED", start_us, start_us + US, *ids
    )
    storage.put_order(order)
    big = EmulatedAsset(
        BIG, start_us, start_us, *ids, name="big.zip", order_id=order.id, title="Big one",
        status="SUCCESSFUL", tags=["alpha", "beta"], collection="phr", producer="airbus",
    )  # fmt: skip
    storage.put_asset(big, PatternContent(BIG_SEED, BIG_BYTES))
    note = EmulatedAsset(
        NOTE, start_us + US, start_us + US, *ids, name="note.txt", source="USER",
        content_type="text/plain", fraction_digits=3,
    )  # fmt: skip
    storage.put_asset(note, BytesContent(NOTE_BYTES))
    empty = EmulatedAsset(EMPTY, start_us + 2 * US, start_us + 2 * US, *ids, name="empty.bin")
    storage.put_asset(empty, BytesContent(b""))
    file = StacFile("b01.tiff", FILE, "image/tiff")
    storage.put_stac_file(file, PatternContent(FILE_SEED, FILE_BYTES), start_us)
    item = Item(stable_id("item"), stable_id("collection"), "SCENE", start_us,
                (10.0, 50.0, 11.0, 51.0), (file,), {"gsd": 0.5, "eo:cloud_cover": 7})  # fmt: skip
    storage.put_collection(Collection(item.collection_id, BIG, "SCENE", start_us, [item], True))
    return storage


@dataclass
class Emulator:
    """A running emulator and a signed-in client of it."""

    urls: Urls
    client: httpx.AsyncClient
    token: str = ""

    async def sign_in(self) -> None:
        answer = await self.client.post(self.urls.auth_url + TOKEN_PATH, data=FORM)
        self.token = answer.json()["access_token"]

    async def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return await self.client.request(method, self.urls.api_url + path, headers=headers, **more)

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.api("GET", path, params=query or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def sign(self, asset_id: str) -> str:
        answer = await self.api("POST", f"/v2/assets/{asset_id}/download-url")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["url"])

    async def fetch(self, asset_id: str, **headers: str) -> httpx.Response:
        return await self.client.get(await self.sign(asset_id), headers=headers)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.client.request(method, self.urls.control_url + path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def faults(self, **switches: Any) -> dict[str, Any]:
        return dict(await self.control("PATCH", "/faults", switches))

    async def op(self, op: str, **fields: Any) -> dict[str, Any]:
        return dict(await self.control("POST", "/storage", {"op": op, **fields}))

    async def log(self, query: str = "") -> list[dict[str, Any]]:
        return list((await self.control("GET", f"/log{query}"))["requests"])


Start = Callable[..., Awaitable[Emulator]]
