"""Proxies, certificates and addresses: the API plane and the byte plane do the same.

Each question is put to both, through real sockets of the loopback. Names are resolved by the test:
for httpx by trio's hook, for libcurl by its own option.
"""

from __future__ import annotations

import contextlib
import gc
import shutil
import socket
import ssl
import subprocess
from collections.abc import Mapping
from ctypes import c_void_p
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pycurl
import pytest
import trio
from certificates import NAME, make_certificate

from up42fs.api.network import Reached, make_http
from up42fs.api.transport import ApiTransport, Call, Limits, _fault, _is_tls, _kind
from up42fs.errors import ConfigurationError, DeadlineExceeded, InvalidAnswer
from up42fs.metrics import Metrics
from up42fs.net.certificates import find_trust
from up42fs.net.retry import PROXY_STALLED, TLS_STALLED, Failure, FailureKind, Plane
from up42fs.store.http import libcurl
from up42fs.store.http import transport as transport_module
from up42fs.store.http.answer import Delivery, RangeRequest, ResponseHead
from up42fs.store.http.source import explain
from up42fs.store.http.transport import CurlTransport
from up42fs.types import ByteRange, Bytes

BODY = b"x" * 100
ANSWER = (
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-99/100\r\nContent-Length: 100\r\n\r\n"
) + BODY
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


class Sink(Delivery):
    def __init__(self) -> None:
        pass

    def begin(self, head: ResponseHead) -> bool:
        return True

    def space(self) -> memoryview | None:
        return None

    def write(self, data: Bytes) -> bool:
        return True

    def fill(self, count: int) -> bool:
        raise AssertionError("there is no place")

    def abandon(self) -> None:
        raise AssertionError("there is no place")


class Server:
    """A TLS server on the loopback, and an HTTP proxy before it."""

    def __init__(self, certificate: Path) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self.connections = 0
        self.answered = 0
        self.asked_of_proxy: list[bytes] = []
        self.port = self.proxy_port = self.socks_port = 0
        self.socks_login: bytes | None = None
        self.socks_reply = 0

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        tls = trio.SSLStream(stream, self.context, server_side=True)
        with contextlib.suppress(trio.BrokenResourceError, ssl.SSLError):
            while await tls.receive_some():
                self.answered += 1
                await tls.send_all(ANSWER)
        await trio.aclose_forcefully(stream)

    async def _proxy(self, stream: trio.SocketStream) -> None:
        self.asked_of_proxy.append(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self._connect(stream)

    async def _socks(self, stream: trio.SocketStream) -> None:
        """RFC 1928 and RFC 1929, written from these: an address asked for as `kind`, `address`."""
        data = bytearray()

        async def take(count: int) -> bytes:
            while len(data) < count:
                data.extend(await stream.receive_some(1))  # in the smallest pieces
            taken = bytes(data[:count])
            del data[:count]
            return taken

        version, count = await take(2)
        assert version == 5
        offered = await take(count)
        method = 0 if self.socks_login is None else 2 if 2 in offered else 255
        await stream.send_all(bytes((5, method)))
        if method == 255:
            return await trio.aclose_forcefully(stream)
        if method == 2:
            _, count = await take(2)
            name = await take(count)
            (count,) = await take(1)
            is_good = name + b":" + await take(count) == self.socks_login
            await stream.send_all(bytes((1, not is_good)))
            if not is_good:
                return await trio.aclose_forcefully(stream)
        _, command, _, kind = await take(4)
        assert command == 1
        length = {1: 4, 4: 16}.get(kind) or (await take(1))[0]
        address = await take(length)
        assert int.from_bytes(await take(2), "big") == self.port
        self.asked_of_proxy.append(bytes((kind,)) + address)
        # It says where it connects from by a name: clients have to read that, too.
        with contextlib.suppress(trio.BrokenResourceError):  # those that are refused read no more
            for byte in bytes((5, self.socks_reply, 0, 3, 4)) + b"here" + b"\0\1":
                await stream.send_all(bytes((byte,)))
        if self.socks_reply:
            return await trio.aclose_forcefully(stream)
        return await self._connect(stream)

    async def _connect(self, stream: trio.SocketStream) -> None:
        inner = await trio.open_tcp_stream("127.0.0.1", self.port)

        async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while data := await source.receive_some():
                    await target.send_all(data)
            await trio.aclose_forcefully(target)

        async with stream, inner, trio.open_nursery() as both:
            both.start_soon(pump, stream, inner)
            both.start_soon(pump, inner, stream)

    async def start(self, nursery: trio.Nursery) -> None:
        for serve, name in (
            (self._serve, "port"),
            (self._proxy, "proxy_port"),
            (self._socks, "socks_port"),
        ):
            listening = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
            (listener, *_) = await nursery.start(listening)
            setattr(self, name, listener.socket.getsockname()[1])

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}/object"

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.proxy_port}"


class Resolver(trio.abc.HostnameResolver):
    """Knows one name."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked = 0

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        self.asked += 1
        assert host in (NAME, NAME.encode())
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.address, int(port)))]

    async def getnameinfo(self, *_: Any) -> Any:
        raise AssertionError("not asked")


class Planes:
    """Asks by httpx and by libcurl; the outcomes are words that can be compared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    async def ask(
        self,
        url: str,
        environ: Mapping[str, str],
        *,
        address: str = "127.0.0.1",
        local: bool = True,
    ) -> tuple[str, str]:
        api = await self._api(url, environ, address)
        return api, await self._store(url, environ, address, local)

    async def _api(self, url: str, environ: Mapping[str, str], address: str) -> str:
        trio.socket.set_custom_hostname_resolver(Resolver(address))
        try:
            async with make_http(environ=environ) as http:
                return "ok" if (await http.get(url)).content == BODY else "other"
        except (httpx.ConnectError, httpx.ProxyError) as error:
            return "tls" if _is_tls(error) else "refused"
        finally:
            trio.socket.set_custom_hostname_resolver(None)

    async def _store(self, url: str, environ: Mapping[str, str], address: str, local: bool) -> str:
        port = httpx.URL(url).port or 443
        entry = libcurl._slist_append(None, f"{NAME}:{port}:{address}".encode())
        prepare = CurlTransport._prepare

        def resolved(transport: CurlTransport, transfer: Any, attempt: Any) -> None:
            prepare(transport, transfer, attempt)
            transfer.set(pycurl.RESOLVE, c_void_p(entry))

        with self._patch.context() as patch:
            patch.setattr(CurlTransport, "_prepare", resolved)
            transport = CurlTransport(1, environ=environ, is_local=lambda: local)
        try:
            request = RangeRequest(url, ByteRange(0, 100), None, 10)
            outcome = await transport.fetch(request, Sink())
        except InvalidAnswer:
            return "refused"
        finally:
            transport.close()
        return {None: "ok", FailureKind.TLS: "tls"}.get(outcome.kind, str(outcome.kind))


@pytest.fixture
def planes(monkeypatch: pytest.MonkeyPatch) -> Planes:
    for name in ("https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return Planes(monkeypatch)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path, "store")


# certificates -------------------------------------------------------------------------------------


@pytest.mark.claim("S115")
async def test_certificates_of_a_file_or_a_directory_by_any_path(
    nursery: trio.Nursery, planes: Planes, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(certificate)
    await server.start(nursery)
    directory = certificate.parent / "hashed"
    directory.mkdir()
    shutil.copy(certificate, directory)
    subprocess.run(["openssl", "rehash", str(directory)], check=True)
    monkeypatch.chdir(certificate.parent)
    for environ in (
        {"SSL_CERT_FILE": str(certificate)},
        {"SSL_CERT_FILE": certificate.name},
        {"SSL_CERT_DIR": str(directory)},
        {"SSL_CERT_DIR": "hashed"},
        {"SSL_CERT_DIR": f"/usr/share:{directory}"},
    ):
        assert await planes.ask(server.url, environ) == ("ok", "ok"), environ


@pytest.mark.claim("S115")
async def test_what_is_self_signed_or_has_expired_is_refused(
    nursery: trio.Nursery, planes: Planes, tmp_path: Path, certificate: Path
) -> None:
    old = make_certificate(tmp_path, "old", days=-1)
    for shown, environ in (
        (certificate, {}),
        (old, {}),
        (old, {"SSL_CERT_FILE": str(old)}),
        (make_certificate(tmp_path, "stranger"), {"SSL_CERT_FILE": str(certificate)}),
    ):
        server = Server(shown)
        await server.start(nursery)
        assert await planes.ask(server.url, environ) == ("tls", "tls"), environ
        assert server.answered == 0


async def test_a_name_that_the_certificate_does_not_bear_is_refused(
    nursery: trio.Nursery, planes: Planes, certificate: Path
) -> None:
    server = Server(certificate)
    await server.start(nursery)
    environ = {"SSL_CERT_FILE": str(certificate)}
    url = f"https://localhost:{server.port}/object"
    async with make_http(environ=environ) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(url)
    assert await planes._store(url, environ, "127.0.0.1", True) == "tls"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there_are_named_on_both_planes(variable: str) -> None:
    environ = {variable: "/nonexistent/ca"}
    with pytest.raises(ConfigurationError, match=variable):
        make_http(environ=environ)
    with pytest.raises(ConfigurationError, match=variable):
        CurlTransport(1, environ=environ)


def test_the_system_is_believed_where_nothing_is_set(certificate: Path) -> None:
    assert find_trust({}).origin in ("the system", "the Python package certifi")
    assert find_trust({"SSL_CERT_FILE": str(certificate)}).origin == "SSL_CERT_FILE"
    both = find_trust({"SSL_CERT_DIR": str(certificate.parent)})
    assert both.file == find_trust({}).file
    assert "SSL_CERT_DIR" in both.origin


# proxies ------------------------------------------------------------------------------------------


@pytest.mark.claim("S116")
@pytest.mark.parametrize(
    ("variables", "is_proxied"),
    [
        ({"HTTPS_PROXY": "PROXY"}, True),
        ({"https_proxy": "PROXY"}, True),
        ({"ALL_PROXY": "PROXY"}, True),
        ({"all_proxy": "socks://127.0.0.1:1/", "https_proxy": "PROXY"}, True),
        ({"HTTPS_PROXY": "PROXY", "NO_PROXY": "other.example"}, True),
        ({"HTTPS_PROXY": "PROXY", "NO_PROXY": ".example"}, False),
        ({"HTTPS_PROXY": "PROXY", "no_proxy": "store.example"}, False),
        ({"HTTPS_PROXY": "PROXY", "NO_PROXY": "*"}, False),
        (
            {"all_proxy": "socks://p:1/", "NO_PROXY": "10.0.0.0/8,[::1],store.example"},
            False,
        ),
    ],
)
async def test_both_planes_go_through_the_same_proxy(
    nursery: trio.Nursery,
    planes: Planes,
    certificate: Path,
    variables: dict[str, str],
    is_proxied: bool,
) -> None:
    server = Server(certificate)
    await server.start(nursery)
    environ = {name: value.replace("PROXY", server.proxy) for name, value in variables.items()}
    environ["SSL_CERT_FILE"] = str(certificate)
    # make_http tells of a proxy that cannot be used before a host is known; NO_PROXY may spare it.
    assert await planes.ask(server.url, environ) == ("ok", "ok")
    assert len(server.asked_of_proxy) == (2 if is_proxied else 0)
    for asked in server.asked_of_proxy:
        assert asked.startswith(f"CONNECT {NAME}:{server.port} ".encode())


async def test_logins_of_proxies_reach_them_decoded(
    nursery: trio.Nursery, planes: Planes, certificate: Path
) -> None:
    server = Server(certificate)
    await server.start(nursery)
    proxy = server.proxy.replace("//", "//me%40work:pa%3Ass@")
    environ = {"HTTPS_PROXY": proxy, "SSL_CERT_FILE": str(certificate)}
    assert await planes.ask(server.url, environ) == ("ok", "ok")
    for asked in server.asked_of_proxy:
        assert b"Basic bWVAd29yazpwYTpzcw==" in asked  # me@work:pa:ss


@pytest.mark.claim("S190")
@pytest.mark.parametrize(
    ("scheme", "asked"),
    [("socks5h", b"\x03" + NAME.encode()), ("socks5", b"\x01" + bytes((127, 0, 0, 1)))],
)
@pytest.mark.parametrize("login", [None, "me%40work:pa%3Ass@"])
async def test_both_planes_go_through_a_socks_proxy(
    nursery: trio.Nursery,
    planes: Planes,
    certificate: Path,
    scheme: str,
    asked: bytes,
    login: str | None,
) -> None:
    server = Server(certificate)
    server.socks_login = b"me@work:pa:ss" if login else None
    await server.start(nursery)
    environ = {
        "ALL_PROXY": f"{scheme}://{login or ''}127.0.0.1:{server.socks_port}",
        "SSL_CERT_FILE": str(certificate),
    }
    assert await planes.ask(server.url, environ) == ("ok", "ok")
    assert server.asked_of_proxy == [asked, asked]
    environ["NO_PROXY"] = NAME
    assert await planes.ask(server.url, environ) == ("ok", "ok")
    assert len(server.asked_of_proxy) == 2


@pytest.mark.claim("S190")
@pytest.mark.parametrize("fault", ["login", "wrong login", "reply", "http", "nobody"])
async def test_a_socks_proxy_that_does_not_connect(
    nursery: trio.Nursery, planes: Planes, certificate: Path, fault: str
) -> None:
    server = Server(certificate)
    server.socks_login = b"me:word" if "login" in fault else None
    server.socks_reply = 4 if fault == "reply" else 0
    await server.start(nursery)
    login = "me:other@" if fault == "wrong login" else ""
    port = {"http": server.proxy_port, "nobody": 1}.get(fault, server.socks_port)
    environ = {"ALL_PROXY": f"socks5h://{login}127.0.0.1:{port}"}
    with trio.fail_after(10):
        store = await planes._store(server.url, environ, "127.0.0.1", True)
        assert await planes._api(server.url, environ, "127.0.0.1") == "refused"
    assert store == str(FailureKind.UNREACHABLE)
    assert not server.answered


# addresses ----------------------------------------------------------------------------------------


@pytest.mark.claim("S117")
@pytest.mark.parametrize(
    "host", ["127.1", "0x7f.1", "2130706433", "%31%32%37.0.0.1", "127.0.0.1.", "localhost",
             "[::ffff:127.0.0.1]", NAME]
)  # fmt: skip
async def test_links_of_a_public_api_never_connect_to_this_machine(
    nursery: trio.Nursery, planes: Planes, certificate: Path, host: str
) -> None:
    """Judged at the moment of connecting: a name may resolve to anything by then."""
    server = Server(certificate)
    await server.start(nursery)
    url = f"https://{host}:{server.port}/object"
    environ = {"SSL_CERT_FILE": str(certificate)}
    assert await planes._store(url, environ, "127.0.0.1", False) == "refused"
    assert server.connections == 0


@pytest.mark.claim("S117")
@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "100.100.100.200"])
async def test_names_that_resolve_to_nobodys_address_are_refused_on_both_planes(
    planes: Planes, address: str
) -> None:
    with trio.fail_after(5):
        assert await planes.ask(f"https://{NAME}/", {}, address=address) == ("refused", "refused")


async def test_where_a_proxy_resolves_only_the_literal_is_judged(
    nursery: trio.Nursery, planes: Planes, certificate: Path
) -> None:
    server = Server(certificate)
    await server.start(nursery)
    environ = {"HTTPS_PROXY": server.proxy, "SSL_CERT_FILE": str(certificate)}
    answers = await planes.ask(server.url, environ, address="169.254.169.254", local=False)
    assert answers == ("ok", "ok"), "a proxy on this machine is the user's word"


async def test_an_api_that_proves_to_be_on_this_machine_may_name_it(
    nursery: trio.Nursery, planes: Planes, certificate: Path
) -> None:
    server = Server(certificate)
    await server.start(nursery)
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1"))
    try:
        for environ, is_local in (({}, False), ({"SSL_CERT_FILE": str(certificate)}, True)):
            reached = Reached(server.url)
            assert not reached.is_local
            async with make_http(environ=environ, reached=reached) as http:
                with contextlib.suppress(httpx.ConnectError):
                    await http.get(server.url)
            assert reached.is_local is is_local, "only where its certificate is believed"
    finally:
        trio.socket.set_custom_hostname_resolver(None)
    assert Reached("http://127.0.0.1:8080").is_local


async def test_a_dead_first_address_costs_a_quarter_of_a_second(
    nursery: trio.Nursery, certificate: Path
) -> None:
    server = Server(certificate)
    await server.start(nursery)

    class Two(Resolver):
        async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, ("127.0.0.77", 1)), (*kind, ("127.0.0.1", int(port)))]

    trio.socket.set_custom_hostname_resolver(Two(""))
    try:
        async with make_http(environ={"SSL_CERT_FILE": str(certificate)}) as http:
            with trio.fail_after(5):
                assert (await http.get(server.url)).content == BODY
    finally:
        trio.socket.set_custom_hostname_resolver(None)


# silence, by where it begins ----------------------------------------------------------------------


class Silent:
    """A listener whose connections stand, and on which nothing is ever sent."""

    def __init__(self, stack: contextlib.ExitStack, *, accepts: bool = True) -> None:
        self._socket = stack.enter_context(socket.socket())
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(50 if accepts else 0)
        self.port = self._socket.getsockname()[1]
        for _ in range(0 if accepts else 4):  # a full backlog drops packets, as a firewall does
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(self._socket.getsockname())


HEAD = ANSWER.removesuffix(BODY)
STALLED, UNREACHABLE = FailureKind.STALLED, FailureKind.UNREACHABLE


Told = dict[str, tuple[FailureKind | None, str | None]]
#: Of no network: only a proxy is connected to.
FAR = "https://192.0.2.1:9/object"


async def ask_api(told: Told, name: str, url: str, environ: dict[str, str], limit_s: int) -> None:
    make = partial(make_http, connect_timeout_s=limit_s, read_timeout_s=limit_s)
    async with make(environ=environ) as http:
        try:
            await http.get(url)
        except httpx.TransportError as error:
            told[name] = _kind(error), _fault(error)


async def ask_store(told: Told, name: str, url: str, environ: dict[str, str], limit_s: int) -> None:
    transport = CurlTransport(1, environ=environ, stall_s=limit_s)
    request = RangeRequest(url, ByteRange(0, 100), None, 60)
    outcome = await transport.fetch(request, Sink())
    transport.close()
    told[name] = outcome.kind, outcome.why


async def head_only(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(HEAD + BODY[:10])
    await trio.sleep_forever()


@pytest.mark.claim("S375")
async def test_silence_is_a_stall_once_a_connection_was_accepted(
    nursery: trio.Nursery, planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = partial(trio.serve_tcp, head_only, 0, host="127.0.0.1")
    (listener, *_) = await nursery.start(serving)
    stack = contextlib.ExitStack()
    silent, closed = Silent(stack).port, Silent(stack, accepts=False).port
    cases: dict[str, tuple[str, str | None]] = {
        "dropped": (f"http://127.0.0.1:{closed}/object", None),
        "dropped TLS": (f"https://127.0.0.1:{closed}/object", None),
        "dropped proxy": (FAR, f"http://127.0.0.1:{closed}"),
        "dropped SOCKS": (FAR, f"socks5h://127.0.0.1:{closed}"),
        "TLS": (f"https://127.0.0.1:{silent}/object", None),
        "proxy": (FAR, f"http://127.0.0.1:{silent}"),
        "TLS proxy": (FAR, f"https://127.0.0.1:{silent}"),
        "SOCKS": (FAR, f"socks5h://127.0.0.1:{silent}"),
        "SOCKS, resolved here": (FAR, f"socks5://127.0.0.1:{silent}"),
        "head": (f"http://127.0.0.1:{silent}/object", None),
        "body": (f"http://127.0.0.1:{listener.socket.getsockname()[1]}/object", None),
    }
    kinds = {name: UNREACHABLE if "dropped" in name else STALLED for name in cases}
    # What is silent on the way to a proxy for HTTP is not told apart by each libcurl.
    words = {"TLS": TLS_STALLED, "SOCKS": PROXY_STALLED, "head": None, "dropped": None}
    with stack:
        for limit_s in (1, 5, 20):  # a busy machine may take longer than 1 s to connect to itself
            monkeypatch.setattr(transport_module, "CONNECT_TIMEOUT_S", limit_s)
            api, store = Told(), Told()
            async with trio.open_nursery() as asking:
                for name, (url, proxy) in cases.items():
                    environ = {"ALL_PROXY": proxy} if proxy else {}
                    asking.start_soon(ask_api, api, name, url, environ, limit_s)
                    asking.start_soon(ask_store, store, name, url, environ, limit_s)
            found = [{name: kind for name, (kind, _) in told.items()} for told in (api, store)]
            if found == [kinds, kinds]:
                break
    assert found == [kinds, kinds]
    for told in (api, store):
        assert {name: told[name][1] for name in words} == words


@pytest.mark.claim("S375")
async def test_the_error_of_a_stalled_handshake_says_so() -> None:
    with contextlib.ExitStack() as stack:
        url = f"https://127.0.0.1:{Silent(stack).port}/v2/assets"
        async with make_http(environ={}, connect_timeout_s=0.2) as http:
            api = ApiTransport(
                http, plane=Plane.API, metrics=Metrics(), limits=Limits(ceiling_s=1.0)
            )
            with pytest.raises(DeadlineExceeded) as caught:
                await api.fetch(Call("listing assets", "GET", url))
    assert str(caught.value).startswith(
        "listing assets failed: UP42 (127.0.0.1) stopped sending (in the TLS handshake); "
    )
    gc.collect()  # a connection that the ceiling ended amid its handshake was closed, not left
    told = explain(Failure(Plane.STORE, FailureKind.STALLED, code=TLS_STALLED))
    assert told == "the object store stopped sending (in the TLS handshake)"


async def test_a_transfer_that_was_connected_before_is_judged_anew(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One handle serves one request after another."""
    monkeypatch.setattr(transport_module, "CONNECT_TIMEOUT_S", 1)

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(ANSWER)

    (listener, *_) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    transport = CurlTransport(1, environ={}, threads=1)
    good = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/object"
    with contextlib.ExitStack() as stack:
        bad = f"http://127.0.0.1:{Silent(stack, accepts=False).port}/object"
        kinds = [
            (await transport.fetch(RangeRequest(url, ByteRange(0, 100), None, 10), Sink())).kind
            for url in (good, bad)
        ]
    transport.close()
    assert kinds == [None, UNREACHABLE]
