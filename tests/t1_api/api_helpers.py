"""A scripted UP42 behind httpx.MockTransport, for the API tests."""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from up42fs.api.auth import Credentials, TokenSource
from up42fs.api.client import Client
from up42fs.api.network import make_http
from up42fs.api.transport import Limits
from up42fs.metrics import Metrics
from up42fs.net.pacing import Rate

API = "https://api.up42.com"
AUTH = "https://auth.up42.com"
PASSWORD = "correct horse"
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
DATE_S = 1_700_000_000
ID = "7babc885-be3b-41e2-8a7b-9ef7288f8f53"

Reply = httpx.Response | Exception
Handler = Callable[[httpx.Request], Reply | Awaitable[Reply]]


def reply(document: Any = None, status: int = 200, **headers: str) -> httpx.Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    body = b"" if document is None else json.dumps(document).encode()
    return httpx.Response(
        status, content=body, headers={"date": DATE, "content-type": "application/json"} | named
    )


class Service:
    """Answers tokens by itself, API requests by `handler`; keeps what it was asked."""

    def __init__(self, handler: Handler, *, token_life_s: object = 300) -> None:
        self.handler = handler
        self.token_life_s = token_life_s
        self.requests: list[httpx.Request] = []
        self.sign_ins: list[httpx.Request] = []
        self.on_sign_in: Handler = self._sign_in

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        signing_in = request.url.path.endswith("/token")
        (self.sign_ins if signing_in else self.requests).append(request)
        found = (self.on_sign_in if signing_in else self.handler)(request)
        if isinstance(found, Awaitable):
            found = await found
        if isinstance(found, Exception):
            raise found
        return found

    def _sign_in(self, request: httpx.Request) -> httpx.Response:
        token = {"access_token": f"token{len(self.sign_ins)}", "expires_in": self.token_life_s}
        return reply(token)

    @property
    def paths(self) -> list[str]:
        return [request.url.path for request in self.requests]

    @property
    def bearers(self) -> list[str]:
        return [request.headers["authorization"] for request in self.requests]


class Bench:
    """A client on a scripted service."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        token_life_s = options.pop("token_life_s", 300)
        self.service = Service(handler, token_life_s=token_life_s)
        self.metrics = Metrics()
        self.http = make_http(transport=httpx.MockTransport(self.service))
        limits = options.pop("limits", Limits(rate=Rate(1000, 1000)))
        self.tokens = TokenSource(
            self.http,
            AUTH,
            Credentials("me@example.com", PASSWORD),
            metrics=self.metrics,
            limits=limits,
            jitter=lambda: 0.5,
        )
        self.client = Client(
            self.http,
            self.tokens,
            options.pop("api_url", API),
            metrics=self.metrics,
            limits=limits,
            jitter=lambda: 0.5,
            **options,
        )


def script(*replies: Reply | tuple[Any, int]) -> Handler:
    """Answers these one after the other, the last for ever."""
    left = list(replies)

    def handler(request: httpx.Request) -> Reply:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, tuple):
            return reply(*found)
        if isinstance(found, httpx.Response):
            # A response can be read once.
            return httpx.Response(found.status_code, headers=found.headers, content=found.content)
        return found

    return handler


def recorded(name: str) -> Any:
    """A recorded body; skips where the recordings are absent."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(
        os.environ.get("UP42FS_TEST_RESPONSES", root.parent / "shared" / "api" / "responses")
    )
    if not folder.is_dir():
        pytest.skip(f"no recorded bodies in {folder}; set UP42FS_TEST_RESPONSES")
    return json.loads((folder / name).read_text())
