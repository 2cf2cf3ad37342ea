"""The API plane's connections: which proxy, which addresses, whose certificates.

Theory. The proxy of each request is `net.proxies`' to say, so that both planes go the same way;
httpx reads nothing of the environment. A direct connection resolves the name once, leaves out
addresses that nobody's API has (`net.hosts`), and connects to one of the rest, so a name that
resolves to something else in between changes nothing. The API's host is the user's word, so it may
be this machine; whether it is, as its certificate proves, decides what links may lead to
(`Reached`). With a proxy the proxy resolves, and only what the URL itself says can be judged.
httpcore needs one more library for SOCKS and always lets the proxy resolve; curl does not with
`socks5://`. So the connection through a SOCKS proxy is made here (`net.proxies`), where httpcore
takes it for a direct one.
"""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import httpcore
import httpx
import trio

from up42fs import __version__
from up42fs.deadlines import patient_s
from up42fs.net.certificates import Trust, context_of, find_trust
from up42fs.net.hosts import is_loopback, may_connect, numeric
from up42fs.net.proxies import Proxy, SocksError, handshake, route_of
from up42fs.net.retry import PROXY_STALLED, TLS_STALLED

CONNECT_TIMEOUT_S = patient_s(10.0)
READ_TIMEOUT_S = patient_s(15.0)
KEEP_IDLE_S = 30.0
#: Any host, to check whether the proxy variables can be used at all.
_ANY_HOST = "https://up42.invalid"
#: Delay before the next address is tried in parallel to one that does not respond (RFC 8305),
#: seconds.
_STAGGER_S = 0.25
_Options = Iterable[httpcore.SOCKET_OPTION] | None


class Reached:
    """Whether the API was reached on this machine or elsewhere."""

    def __init__(self, url: str) -> None:
        self.is_local = is_loopback(httpx.URL(url).host)


class SilentWay(httpcore.ReadTimeout):
    """The connection was accepted, and then silent before a request could be sent; says where."""


@dataclass
class _Way:
    """Where a connection is to lead; `is_open` once a proxy on the way has accepted it."""

    host: str
    port: int
    local_address: str | None
    options: _Options
    is_open: bool = False


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects by TCP, the one kind of connection needed, within httpcore's timeout.

    Only a host that accepts no connection counts as out of reach (ConnectTimeout).
    """

    def __init__(self) -> None:
        self._tcp = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: _Options = None,
    ) -> httpcore.AsyncNetworkStream:
        way = _Way(host, port, local_address, socket_options)
        with trio.move_on_after(math.inf if timeout is None else timeout):
            return await self._connect(way)
        raise SilentWay(PROXY_STALLED) if way.is_open else httpcore.ConnectTimeout

    async def _connect(self, way: _Way) -> httpcore.AsyncNetworkStream:
        return _Stream(
            await self._tcp.connect_tcp(way.host, way.port, None, way.local_address, way.options)
        )


class Guarded(_Backend):
    """Connects to addresses that an API may have; raises ConnectError if there are none."""

    def __init__(self, reached: Reached | None = None) -> None:
        super().__init__()
        self._reached = reached

    async def _connect(self, way: _Way) -> httpcore.AsyncNetworkStream:
        addresses = await _resolve(way.host, way.port)
        usable = [one for one in addresses if may_connect(one, local=True)]
        if numeric(way.host) is not None:
            usable = addresses  # the user wrote the address
        if not usable:
            raise httpcore.ConnectError(
                f"{way.host} resolves to {addresses[0]}, where no service of UP42 can be"
            )
        return _RecordedStream(await self._first(usable, way), self._reached)

    async def _first(self, addresses: list[str], way: _Way) -> httpcore.AsyncNetworkStream:
        """Connect to the addresses, staggered, and return the first connection that succeeds."""
        won: list[httpcore.AsyncNetworkStream] = []
        errors: list[Exception] = []
        failed = [trio.Event() for _ in addresses]

        async def attempt(place: int, nursery: trio.Nursery) -> None:
            if place:
                with trio.move_on_after(_STAGGER_S * place):
                    await failed[place - 1].wait()
            try:
                stream = await self._tcp.connect_tcp(
                    addresses[place], way.port, None, way.local_address, way.options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                errors.append(error)
                failed[place].set()
                return
            won.append(stream)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for place in range(len(addresses)):
                nursery.start_soon(attempt, place, nursery)
        for late in won[1:]:
            await late.aclose()
        if not won:
            raise errors[0]
        return won[0]


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that raises SilentWay for a TLS handshake that stalls."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self.read = stream.read  # type: ignore[method-assign]
        self.write = stream.write  # type: ignore[method-assign]
        self.aclose = stream.aclose  # type: ignore[method-assign]
        self.get_extra_info = stream.get_extra_info  # type: ignore[method-assign]

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except httpcore.ConnectTimeout as error:
            raise SilentWay(TLS_STALLED) from error
        except trio.Cancelled:  # httpcore closes it for exceptions only
            await _close(self._stream)
            raise
        return _Stream(stream)  # a proxy's, within which the host's begins


class _RecordedStream(_Stream):
    """A connection that records where it leads after the other side's certificate was verified."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, reached: Reached | None) -> None:
        super().__init__(stream)
        self._reached = reached

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await super().start_tls(ssl_context, server_hostname, timeout)
        peer = self._stream.get_extra_info("server_addr")
        if self._reached is not None and peer:
            self._reached.is_local = not may_connect(str(peer[0]), local=False)
        return stream


async def _close(stream: httpcore.AsyncNetworkStream) -> None:
    """Close a connection that was not made to its end, also where its task is cancelled."""
    with trio.CancelScope(shield=True), trio.move_on_after(1):
        await stream.aclose()


class Socks(_Backend):
    """Connects through a SOCKS proxy; raises ProxyError where the proxy does not connect."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    async def _connect(self, way: _Way) -> httpcore.AsyncNetworkStream:
        host = way.host
        if self._proxy.scheme == "socks5":
            host = (await _resolve(host, way.port))[0]
        stream = await self._tcp.connect_tcp(
            self._proxy.host, self._proxy.port, None, way.local_address, way.options
        )
        way.is_open = True
        try:
            await _shake(stream, host, way.port, self._proxy.login)
        except BaseException:
            await _close(stream)
            raise
        return _Stream(stream)


async def _shake(
    stream: httpcore.AsyncNetworkStream, host: str, port: int, login: tuple[str, str] | None
) -> None:
    steps, got = handshake(host, port, login), b""
    try:
        data, wanted = next(steps)
        while True:
            if data:
                await stream.write(data)
            got = b""
            while len(got) < wanted:
                piece = await stream.read(wanted - len(got))
                if not piece:
                    raise SocksError("it closed the connection")
                got += piece
            data, wanted = steps.send(got)
    except StopIteration:
        return
    except (SocksError, httpcore.ReadError, httpcore.WriteError) as error:
        raise httpcore.ProxyError(f"the SOCKS proxy does not connect: {error}") from error


async def _resolve(host: str, port: int) -> list[str]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class Routed(httpx.AsyncBaseTransport):
    """Sends each request directly or through its proxy."""

    def __init__(
        self,
        environ: Mapping[str, str],
        trust: Trust,
        limits: httpx.Limits,
        reached: Reached | None = None,
    ) -> None:
        self._environ = environ
        self._context = context_of(trust)
        self._limits = limits
        self._reached = reached
        self._pools: dict[Proxy | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; raises ConfigurationError if its proxy cannot be used."""
        proxy = route_of(str(request.url), self._environ).proxy
        if proxy not in self._pools:
            self._pools[proxy] = self._pool(proxy)
        return await self._pools[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()

    def _pool(self, proxy: Proxy | None) -> httpx.AsyncHTTPTransport:
        through = None
        backend = _Backend()
        if proxy is None:
            backend = Guarded(self._reached)
        elif proxy.is_socks:
            backend = Socks(proxy)
        else:
            is_tls = proxy.scheme == "https"
            context = self._context if is_tls else None
            through = httpx.Proxy(proxy.url, auth=proxy.login, ssl_context=context)
        pool = httpx.AsyncHTTPTransport(
            verify=self._context, trust_env=False, limits=self._limits, proxy=through
        )
        # httpx has no parameter for the backend; a test holds this against its next release.
        if through is not None:
            assert isinstance(pool._pool, httpcore.AsyncConnectionPool)
            pool._pool._network_backend = backend
        else:
            pool._pool = httpcore.AsyncConnectionPool(
                ssl_context=self._context,
                max_connections=self._limits.max_connections,
                max_keepalive_connections=self._limits.max_keepalive_connections,
                keepalive_expiry=self._limits.keepalive_expiry,
                network_backend=backend,
            )
        return pool


def make_http(
    *,
    connections: int = 20,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    read_timeout_s: float = READ_TIMEOUT_S,
    transport: httpx.AsyncBaseTransport | None = None,
    reached: Reached | None = None,
    environ: Mapping[str, str] = os.environ,
) -> httpx.AsyncClient:
    """Make an HTTP/1.1 client that honours HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE; no redirects.

    Raises ConfigurationError if those variables cannot be used. `transport` replaces the network
    (tests); the variables are then ignored. `reached` records where the API is.
    """
    limits = httpx.Limits(
        max_connections=connections,
        max_keepalive_connections=connections,
        keepalive_expiry=KEEP_IDLE_S,
    )
    if transport is None:
        if not (environ.get("no_proxy") or environ.get("NO_PROXY")):
            route_of(_ANY_HOST, environ)  # otherwise each request raises
        transport = Routed(dict(environ), find_trust(environ), limits, reached)
    return httpx.AsyncClient(
        headers={
            "User-Agent": f"up42fs/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",  # the encodings that `bounds` unpacks
        },
        timeout=httpx.Timeout(
            read_timeout_s, connect=connect_timeout_s, pool=read_timeout_s + connect_timeout_s
        ),
        follow_redirects=False,
        trust_env=False,
        transport=transport,
    )
