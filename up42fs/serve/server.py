"""The server: sockets, TLS, the application and its connections, until it is asked to stop.

Knows how they belong together; decides nothing that belongs to one of them.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from up42fs import supervise
from up42fs.engine import Engine
from up42fs.errors import ConfigurationError
from up42fs.serve.addresses import Listen
from up42fs.serve.app import App
from up42fs.serve.connections import Address, Clients, most_connections
from up42fs.serve.gate import Peer, Rules
from up42fs.serve.peers import uid_of

log = logging.getLogger(__name__)

#: Clients that wait in the kernel's queue.
BACKLOG = 512
#: How long running answers may go on after the end has begun, seconds.
GRACE_S = 3.0
_MOST_HEAD_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve: where, for whom, and whether all bytes come through here."""

    listen: Listen
    rules: Rules
    proxies: bool = False
    certificate: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        """The scheme of addresses."""
        return "https" if self.certificate else "http"


def check(options: Options) -> None:
    """Raise ConfigurationError where others could read what they should not."""
    listen, rules = options.listen, options.rules
    is_safe = rules.token is not None and options.certificate is not None
    if not listen.is_loopback and not is_safe and not rules.is_behind_proxy:
        raise ConfigurationError(
            f"--listen {listen.netloc} can be reached from other machines: give --token-file FILE "
            "together with --tls-cert FILE and --tls-key FILE; or --behind-proxy, if a server in "
            "front of this one checks who asks and speaks TLS"
        )
    if (options.certificate is None) != (options.key is None):
        raise ConfigurationError("--tls-cert and --tls-key belong together; give both")


async def listeners_of(options: Options) -> list[trio.SocketListener]:
    """Open the sockets to listen at; raises ConfigurationError."""
    listen = options.listen
    try:
        return await trio.open_tcp_listeners(listen.port, host=listen.host, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(
            f"cannot listen at {listen.netloc}: {reason}; choose another address by --listen"
        ) from error


async def serve(
    engine: Engine,
    options: Options,
    *,
    on_ready: Callable[[str], None],
    stop: trio.Event,
    mountpoint: Callable[[], Awaitable[str | None]] | None = None,
) -> None:
    """Serve until `stop` is set; call `on_ready` with the address once clients may come.

    Raises ConfigurationError if the address or the certificate cannot be used.
    """
    check(options)
    secure = await trio.to_thread.run_sync(_secured, options)
    opened = await listeners_of(options)
    host, port = opened[0].socket.getsockname()[:2]
    is_named = not options.listen.host.replace(".", "").isdigit() and ":" not in options.listen.host
    shown = replace(options.listen, host=options.listen.host if is_named else host, port=port)
    rules = replace(options.rules, is_local=options.listen.is_loopback)
    app = App(engine, rules, proxies=options.proxies, mountpoint=mountpoint)
    config, context = _config(), WorkerContext(None)
    clients = Clients(most_connections(), partial(_about, rules))
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as accepting:
            for listener in opened:
                behind = trio.SSLListener(listener, secure) if secure else listener
                supervise.start_for_good(
                    accepting, partial(clients.serve, behind, wrapped, config, context, nursery)
                )
            on_ready(f"{options.scheme}://{shown.netloc}/")
            await stop.wait()
            accepting.cancel_scope.cancel()
        for listener in opened:
            await listener.aclose()
        await context.terminated.set()
        with trio.move_on_after(GRACE_S):
            while len(clients):
                clients.close_idle()
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


def _about(rules: Rules, client: Address, server: Address) -> dict[str, object]:
    """Facts of a connection for the application: the user at its other end."""
    return {"peer": Peer(uid_of(client, server) if rules.tells_users_apart else None)}


def _secured(options: Options) -> ssl.SSLContext | None:
    """The certificate and key, loaded."""
    if options.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"the certificate {options.certificate} and the key {options.key} cannot be used: "
            f"{reason}"
        ) from error
    return context


def _config() -> Config:
    config = Config()
    config.errorlog = logging.getLogger("up42fs.serve.http")
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = _MOST_HEAD_BYTES
    config.keep_alive_max_requests = 1 << 31
    return config
