"""Checks of the path to UP42: proxy, names, TLS, clock, account, links, ranges, speed.

Makes the same requests as a mount, through the same client and the same read engine.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
import trio

from up42fs.api.links import require_secure
from up42fs.api.network import make_http
from up42fs.config.quantities import show_count
from up42fs.config.settings import Settings
from up42fs.doctor.finding import Finding, Severity, fail, ok, warn
from up42fs.engine.account import AccountConnection, connect, credentials_of, nothing_found
from up42fs.errors import ConfigurationError, NotFound, Up42fsError
from up42fs.metrics import Metrics
from up42fs.net.certificates import find_trust
from up42fs.net.proxies import Proxy, route_of
from up42fs.store.members.extent import StoredObject
from up42fs.store.settings import StoreSettings
from up42fs.store.store import FileStore
from up42fs.types import Asset

#: The longest that each step may take, seconds.
STEP_TIMEOUT_S = 15.0
#: Links live 300 s; with a larger clock error than this, tools that check a link's times fail.
MOST_SKEW_S = 60.0
#: Bytes read to measure the speed, and the lowest speed without a warning, bytes a second.
SPEED_BYTES = 8 << 20
LEAST_SPEED = 1_000_000
_RANGE_BYTES = 128 << 10


async def examine(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Run every check of the network; stop at a failure that the rest depends on."""
    failed = False
    try:
        yield ok("certificates", f"believed are those of {find_trust(os.environ).origin}")
        async with make_http() as http:
            for url in dict.fromkeys((settings.auth, settings.api)):
                async for finding in _host(http, url):
                    failed = failed or finding.level is Severity.FAIL
                    yield finding
    except ConfigurationError as error:
        check = "certificates" if "SSL_CERT" in str(error) else "proxy"
        yield fail(check, *_split(error))
        return
    if failed:
        return
    try:
        credentials_of(settings)
    except ConfigurationError as error:
        yield fail("account", *_split(error, "up42fs login"))
        return
    async for finding in _account(settings):
        yield finding


async def _host(http: httpx.AsyncClient, url: str) -> AsyncGenerator[Finding, None]:
    host = urlsplit(url).hostname or url
    try:
        require_secure(url, setting="UP42_API_URL or UP42_AUTH_URL")
    except Up42fsError as error:
        yield fail("address", *_split(error))
        return
    route = route_of(url, os.environ)
    proxy = route.proxy
    if proxy is None:
        if route.why.endswith("says so"):
            yield ok("proxy", f"{host} is reached directly: {route.why}")
        finding = await _name(host, urlsplit(url).port or 443)
        yield finding
        if finding.cure:
            return
    else:
        yield ok("proxy", f"{host} is reached through {proxy.host}: {route.why}")
    async for finding in _answer(http, url, host, proxy):
        yield finding


async def _name(host: str, port: int) -> Finding:
    try:
        with trio.fail_after(STEP_TIMEOUT_S):
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, trio.TooSlowError) as error:
        reason = getattr(error, "strerror", None) or "no answer in time"
        return fail(
            "name service",
            f"{host} has no address: {reason}",
            "check the network connection: resolvectl query " + host,
        )
    return ok("name service", f"{host} is {found[0][4][0]}")


async def _answer(
    http: httpx.AsyncClient, url: str, host: str, proxy: Proxy | None
) -> AsyncGenerator[Finding, None]:
    through = f" through the proxy {proxy.host}" if proxy else ""
    try:
        with trio.fail_after(STEP_TIMEOUT_S):
            answer = await http.get(url + "/")
    except (httpx.HTTPError, trio.TooSlowError) as error:
        yield _no_answer(host, through, proxy, error)
        return
    is_plain = url.startswith("http:")
    yield ok("connection", f"{host} answers" + (" (loopback, no TLS)" if is_plain else through))
    yield _clock(host, answer)


def _no_answer(host: str, through: str, proxy: Proxy | None, error: Exception) -> Finding:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE" in str(cause):
            reason = getattr(cause, "verify_message", None) or "its certificate is not trusted"
            return fail(
                "tls",
                f"{host}: {reason}",
                "set SSL_CERT_FILE to a PEM file with your company's certificate, "
                "and check this machine's clock: timedatectl",
            )
        cause = cause.__cause__ or cause.__context__
    name = proxy.host if proxy else "?"
    if isinstance(error, httpx.ProxyError) and re.search("407|user name", str(error)):
        return fail(
            "proxy",
            f"the proxy {name} wants a user name and password",
            f"set HTTPS_PROXY to {proxy.scheme if proxy else 'http'}://USER:PASSWORD@HOST:PORT",
        )
    if isinstance(error, httpx.ProxyError) or (proxy and isinstance(error, httpx.ConnectError)):
        return fail(
            "proxy",
            f"the proxy {name} does not connect to {host}",
            "correct HTTPS_PROXY, or unset it: unset HTTPS_PROXY",
        )
    reason = "no answer in time" if isinstance(error, trio.TooSlowError) else type(error).__name__
    return fail(
        "connection",
        f"{host} cannot be reached{through}: {reason}",
        "check firewall and network; where a proxy is needed: export HTTPS_PROXY=http://HOST:PORT",
    )


def _clock(host: str, answer: httpx.Response) -> Finding:
    try:
        moment = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return ok("clock", f"{host} does not tell the time")
    skew_s = time.time() - moment
    if abs(skew_s) > MOST_SKEW_S:
        return warn(
            "clock",
            f"this machine is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} {host}",
            "sudo timedatectl set-ntp true",
        )
    return ok("clock", f"within {MOST_SKEW_S:.0f} s of {host}")


async def _account(settings: Settings) -> AsyncGenerator[Finding, None]:
    async with connect(settings, Metrics()) as connection:
        try:
            await connection.preflight(STEP_TIMEOUT_S)
            page = await connection.client.assets_page(0, size=50)
        except NotFound:
            yield ok("account", f"{settings.username} is signed in; only STAC lists its storage")
            return
        except Up42fsError as error:
            yield fail("account", *_split(error))
            return
        if page.total == 0:
            yield await _empty(settings)
        else:
            counted = "" if page.total is None else f", {show_count(page.total, 'asset')}"
            yield ok("account", f"{settings.username} is signed in{counted}")
        readable = [asset for asset in page.items if asset.size]
        if not readable:
            yield ok("links", "no asset to try them with")
            return
        largest = max(readable, key=lambda asset: asset.size or 0)
        async for finding in _bytes(connection, largest):
            yield finding


async def _empty(settings: Settings) -> Finding:
    """Make the finding for an account without assets, or a workspace without assets or unknown."""
    words, _, cure = nothing_found(settings).partition("; ")
    if settings.workspace is not None:
        with suppress(Up42fsError, trio.TooSlowError):
            async with connect(replace(settings, workspace=None), Metrics()) as connection:
                with trio.fail_after(STEP_TIMEOUT_S):
                    total = (await connection.client.assets_page(0, size=1)).total
                    if total is not None:
                        words += f"; all workspaces together have {show_count(total, 'asset')}"
    return warn("account", words, cure)


async def _bytes(connection: AccountConnection, asset: Asset) -> AsyncGenerator[Finding, None]:
    label = asset.name or asset.id
    try:
        with trio.fail_after(STEP_TIMEOUT_S):
            link = await connection.client.sign(asset.id)
    except (Up42fsError, trio.TooSlowError) as error:
        yield replace(fail("links", *_split(error)), names=(label,))
        return
    yield ok("links", f"UP42 signs links; they lead to {urlsplit(link.url).hostname}")
    try:
        finding = await _ranges(connection, asset, label)
    except (Up42fsError, trio.TooSlowError) as error:
        yield replace(fail("ranges", *_split(error)), names=(label,))
        return
    yield finding
    if not finding.cure:
        yield await _speed(connection, asset, label)


async def _ranges(connection: AccountConnection, asset: Asset, label: str) -> Finding:
    started_s = time.monotonic()
    await _read(connection, asset, label, min(_RANGE_BYTES, asset.size or 0))
    took_ms = (time.monotonic() - started_s) * 1000
    words = f"the first bytes of {label} came after {took_ms:.0f} ms, with a new link"
    return replace(ok("ranges", words), names=(label,))


async def _speed(connection: AccountConnection, asset: Asset, label: str) -> Finding:
    wanted = min(SPEED_BYTES, asset.size or 0)
    started_s = time.monotonic()
    try:
        await _read(connection, asset, label, wanted)
    except (Up42fsError, trio.TooSlowError) as error:
        return replace(fail("speed", *_split(error)), names=(label,))
    rate = wanted / (time.monotonic() - started_s)
    words = f"{rate / 1e6:.1f} MB/s, reading {wanted / 1e6:.1f} MB of {label}"
    if rate < LEAST_SPEED and wanted > 1 << 20:
        slow = warn("speed", words, "read ahead of your work: up42fs warm PATH")
        return replace(slow, names=(label,))
    return replace(ok("speed", words), names=(label,))


async def _read(connection: AccountConnection, asset: Asset, label: str, count: int) -> None:
    settings = StoreSettings(memory_bytes=64 << 20, cache_dir=None)
    failure: Up42fsError | None = None
    with trio.fail_after(STEP_TIMEOUT_S + 5):
        async with trio.open_nursery() as nursery:
            store = FileStore(
                nursery, connection.client.sign, settings, Metrics(),
                is_local=lambda: connection.reached.is_local,
            )  # fmt: skip
            try:
                file = store.open(StoredObject(asset.id, asset.size or 0, label))
                for offset in range(0, count, 1 << 20):
                    await file.read(offset, min(1 << 20, count - offset))
            except Up42fsError as error:
                failure = error  # raised outside the nursery, which would wrap it in a group
            finally:
                with trio.CancelScope(shield=True):
                    await store.aclose()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _split(error: BaseException, cure: str = "") -> tuple[str, str]:
    """Split an error's message into reason and cure, which up42fs separates by a semicolon."""
    if isinstance(error, trio.TooSlowError):
        return "no answer in time", "check the network connection"
    words, _, told = str(error).partition("; ")
    return words, cure or told or "try again in a minute"
