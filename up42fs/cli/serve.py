"""`up42fs serve`: serves the storage over HTTP until it is stopped."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trio

from up42fs import logs, supervise
from up42fs.cli import keeping
from up42fs.cli.mount import notify
from up42fs.cli.options import Subparsers, add_command, add_json, add_options, path_argument
from up42fs.cli.options import settings_of as merge
from up42fs.cli.running import read_status
from up42fs.cli.terminal import say
from up42fs.config import options as config
from up42fs.config.settings import Settings, is_open_to_others
from up42fs.engine import Engine
from up42fs.errors import ConfigurationError
from up42fs.fuse.mount_table import ours
from up42fs.log_files import Rotation
from up42fs.mount import signals
from up42fs.mount.process import (
    GC_THRESHOLD,
    return_memory,
    seclude,
    wake_without_memory,
    watch_sleep,
)
from up42fs.serve import records
from up42fs.serve.records import ServerRecord
from up42fs.visible import visible

if TYPE_CHECKING:
    from up42fs.serve.server import Options

log = logging.getLogger(__name__)

#: Options of a mount that mean nothing here: no kernel shows the files, and nothing is edited.
_OF_MOUNTS = frozenset(
    {
        *("ro", "rw", "edit", "nonempty", "on_term", "uid", "gid", "umask", "read_ahead"),
        *("sidecars", "sidecars_size", "noreadme"),
    }
)
#: The shortest token that is taken, characters, and the longest file that may hold one, bytes.
LEAST_TOKEN = 16
_MOST_TOKEN_BYTES = 4096


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command, with the long options that matter to it."""
    parser = add_command(
        commands,
        "serve",
        "Serve UP42 storage over HTTP: addresses that do not expire, for programs\n"
        "that cannot mount. A file is answered by a redirect to a fresh link, or with --proxy by\n"
        "bytes out of the cache. At / there is a page for people. Ends with Ctrl-C.",
        "up42fs serve",
        "up42fs serve --proxy --listen 127.0.0.1:8042",
        "up42fs serve --listen 0.0.0.0:8443 --token-file TOKEN --tls-cert PEM --tls-key PEM",
        "gdalinfo /vsicurl/http://127.0.0.1:8042/assets/scene.tif",
    )
    parser.add_argument(
        "--listen",
        default="127.0.0.1:8042",
        metavar="HOST:PORT",
        help="address to listen at (default %(default)s; port 0: any free one)",
    )
    parser.add_argument(
        "--proxy", action="store_true", help="send bytes out of the cache instead of redirects"
    )
    parser.add_argument(
        "--token-file",
        type=path_argument,
        metavar="FILE",
        help="file with the token that clients must send; made if it does not exist",
    )
    parser.add_argument(
        "--tls-cert", type=path_argument, metavar="FILE", help="certificate chain (PEM) for https"
    )
    parser.add_argument("--tls-key", type=path_argument, metavar="FILE", help="its key (PEM)")
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a server in front checks who asks and speaks TLS; its X-Forwarded-* are believed",
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further host name that addresses of this server may have",
    )
    parser.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let web pages of this origin read, as https://maps.example.org; * for all",
    )
    parser.add_argument(
        "-o",
        dest="mount_options",
        action="append",
        default=[],
        metavar="OPT,…",
        help="options as of a mount: -o refresh=30,cache_size=50G,allow_other",
    )
    add_json(parser, "print the address as one JSON line")
    names = {option.name for option in config.OPTIONS} - _OF_MOUNTS
    add_options(parser, names)
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Serve; return the exit status. Raises an `Up42fsError` with the reason of a failure."""
    try:
        from up42fs.serve import server
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"up42fs serve needs the Python package {error.name}; run: pip install 'up42fs[serve]'"
        ) from None
    settings = merge(
        options, os.environ, config.parse_mount_options(",".join(options.mount_options))
    )
    serving = _options(options, settings)
    server.check(serving)
    rotation = Rotation(settings.log_size, settings.log_keep)
    logs.set_up(settings.log_level, settings.log_file, settings.log_format, rotation)
    settings, notes = keeping.kept(settings, os.environ)
    return_memory()
    seclude()
    recent = logs.Recent()
    logging.getLogger("up42fs").addHandler(recent)
    with ExitStack() as until_end:

        def ready(address: str) -> None:
            _ready(serving, options.token_file, address, is_json=options.json)
            record = record_of(settings, serving, options.token_file, address)
            if record is not None:
                until_end.enter_context(records.kept(record))

        _run(partial(_serve, settings, serving, notes, recent, ready))
    return 0


def _run(work: Callable[[], Any]) -> None:
    try:
        trio.run(work)
    except BaseExceptionGroup as group:
        found = list(supervise.leaves(group))
        if len(found) != 1:
            raise
        raise found[0] from None


async def _serve(
    settings: Settings,
    options: Options,
    notes: list[str],
    recent: logs.Recent,
    ready: Callable[[str], None],
) -> None:
    from up42fs.serve import server

    wake_without_memory()
    stop = trio.Event()

    def about() -> dict[str, object]:
        return {"recent_errors": recent.latest()}

    async with Engine.open(settings, about=about) as engine, trio.open_nursery() as nursery:
        engine.notes += notes
        for note in engine.current_notes():
            log.warning("%s", note)
        # Loaded objects stay: collections that examine them repeatedly would stall clients.
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        await nursery.start(signals.listen, lambda _: stop.set(), engine.sync.refresh_now)
        supervise.start_for_good(nursery, watch_sleep, engine.wake)
        find = partial(trio.to_thread.run_sync, _mountpoint_of, settings)
        await server.serve(engine, options, on_ready=ready, stop=stop, mountpoint=find)
        notify(STOPPING="1")
        nursery.cancel_scope.cancel()


def _ready(
    options: Options, token_file: str | None, address: str, *, is_json: bool = False
) -> None:
    if is_json:
        document = {"address": address, "token_file": token_file}
        say(json.dumps(document), flush=True)
    else:
        say(f"up42fs serves {address}", flush=True)
    if not is_json and options.rules.token is not None:
        say(f"clients must send the token in {token_file}", flush=True)
    log.info("serving %s", address)
    notify(READY="1", STATUS=f"{address} answers")


def record_of(
    settings: Settings, options: Options, token_file: str | None, address: str
) -> ServerRecord | None:
    """What commands of this user may know of the server; None if they cannot tell its address."""
    listen, names = options.listen, options.rules.hosts
    parts = urlsplit(address)
    netloc = parts.netloc
    if names and not listen.is_loopback:
        netloc = names[0] if parts.port is None else f"{names[0]}:{parts.port}"
    elif options.rules.is_behind_proxy:
        return None
    elif parts.hostname in ("0.0.0.0", "::"):  # noqa: S104
        netloc = f"{'[::1]' if parts.hostname == '::' else '127.0.0.1'}:{parts.port}"
    return ServerRecord(
        f"{parts.scheme}://{netloc}",
        settings.api,
        settings.username or "",
        settings.workspace,
        os.path.abspath(token_file) if token_file else None,  # noqa: PTH100
    )


def _options(options: argparse.Namespace, settings: Settings) -> Options:
    from up42fs.serve.addresses import parse_listen
    from up42fs.serve.gate import Rules
    from up42fs.serve.server import Options

    token = token_of(Path(options.token_file)) if options.token_file else None
    rules = Rules(
        os.getuid(),
        token=token,
        is_behind_proxy=options.behind_proxy,
        hosts=tuple(options.host),
        origins=frozenset(origin.rstrip("/") for origin in options.cors),
        allow_other=settings.allow_other,
        share_links=settings.allow_other and settings.share_links,
    )
    return Options(
        parse_listen(options.listen),
        rules,
        proxies=options.proxy,
        certificate=Path(options.tls_cert) if options.tls_cert else None,
        key=Path(options.tls_key) if options.tls_key else None,
    )


def token_of(path: Path) -> str:
    """Read the token, or make a random one in a new file; raises ConfigurationError."""
    shown = visible(str(path))
    try:
        return _new_token(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(f"the token file {shown}: {error.strerror}") from error
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            told = file.read(_MOST_TOKEN_BYTES)
    except OSError as error:
        raise ConfigurationError(f"the token file {shown}: {error.strerror}") from error
    if is_open_to_others(found) and stat.S_ISREG(found.st_mode):
        raise ConfigurationError(
            f"other users may read the token in {shown}; run: chmod 600 {quote(str(path))}"
        )
    token = told.decode("ascii", "replace").strip()
    if len(token) < LEAST_TOKEN or not token.isprintable() or set(token) & set("�/?#% "):
        raise ConfigurationError(
            f"the token file {shown} must hold one word of {LEAST_TOKEN} or more ASCII characters "
            "without / ? # %; or name a file that does not exist, and a random one is made"
        )
    return token


def _new_token(path: Path) -> str:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    token = secrets.token_urlsafe(32)
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    return token


def _mountpoint_of(settings: Settings) -> str | None:
    """Find where the same storage is mounted on this machine by this user."""
    for mount in ours():
        status = None if mount.is_foreign else read_status(Path(mount.mountpoint))
        if status is None or status.get("account") != settings.username:
            continue
        if (status.get("api"), status.get("workspace")) == (settings.api, settings.workspace):
            return str(mount.mountpoint)
    return None
