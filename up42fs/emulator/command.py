"""The command line of the emulator: flags, the ready line, shutdown.

Prints exactly one JSON line to stdout once all servers accept connections. Exits at once with
status 0 on SIGINT and SIGTERM, and with its parent if `--die-with-parent` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import trio

from up42fs.emulator import faults
from up42fs.emulator.external import SECRET_ENV, ExternalStore
from up42fs.emulator.sample_files import SampleUnavailableError
from up42fs.emulator.server import EmulatorSettings, serve
from up42fs.emulator.service import Urls
from up42fs.emulator.synthetic import SyntheticSize

DESCRIPTION = "Run a stand-in for UP42: API, identity server and object store on 127.0.0.1."
_PARENT_POLL_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all flags, including one for each fault switch."""
    parser.add_argument("--port", type=int, default=0, help="port of the API (0: any)")
    parser.add_argument("--auth-port", type=int, default=0, help="port of the identity server")
    parser.add_argument("--store-port", type=int, default=0, help="port of the object store")
    parser.add_argument("--data", type=_directory, metavar="DIR", help="serve the files below DIR")
    parser.add_argument(
        "--synthetic",
        type=SyntheticSize.parse,
        metavar="ASSETS[,…]",
        help="serve so many generated rows: ASSETS[,ORDERS[,TAGS[,TRANSFORMED[,FILES]]]], "
        "TRANSFORMED of the assets with FILES files each",
    )
    parser.add_argument(
        "--sample-dir",
        type=_directory,
        metavar="DIR",
        help="where the sample storage is made and kept",
    )
    parser.add_argument(
        "--external-store",
        metavar="URL",
        help="let links lead to another server that shows the files of --data",
    )
    parser.add_argument(
        "--username", default=EmulatorSettings().username, help="default: %(default)s"
    )
    parser.add_argument(
        "--password", default=EmulatorSettings().password, help="default: %(default)s"
    )
    parser.add_argument(
        "--die-with-parent", action="store_true", help="end when the parent process ends"
    )
    faults.add_arguments(parser)


def _directory(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def main(args: argparse.Namespace) -> int:
    """Serve until a signal or the parent's exit; return 0, or print why not and return 1."""
    parent = os.getppid()
    secret = os.environ.get(SECRET_ENV, "")
    if args.external_store and not (args.data and secret):
        print(f"up42fs emulator: --external-store needs --data and {SECRET_ENV}", file=sys.stderr)
        return 1
    external = None
    if args.external_store:
        external = ExternalStore(args.external_store, args.data, secret)
    settings = EmulatorSettings(
        api_port=args.port,
        auth_port=args.auth_port,
        store_port=args.store_port,
        data_dir=args.data,
        sample_dir=args.sample_dir,
        synthetic=args.synthetic,
        external=external,
        username=args.username,
        password=args.password,
        faults=faults.from_arguments(args),
    )
    status = 0
    try:
        trio.run(_serve_until_told, settings, parent if args.die_with_parent else None)
    except* (OSError, SampleUnavailableError) as group:
        print(f"up42fs emulator: {_first(group)}", file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        pass
    return status


def _first(error: BaseException) -> BaseException:
    """Return the first error that is not a group; nested nurseries nest groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def ready_line(settings: EmulatorSettings, urls: Urls) -> str:
    """Return the JSON line that gives callers the servers' addresses and the credentials."""
    ready: dict[str, Any] = {
        "api_url": urls.api_url,
        "auth_url": urls.auth_url,
        "store_url": urls.store_url,
        "control_url": urls.control_url,
        "username": settings.username,
        "password": settings.password,
        "env": {
            "UP42_API_URL": urls.api_url + (settings.faults.api_prefix or ""),
            "UP42_AUTH_URL": urls.auth_url,
            "UP42_USERNAME": settings.username,
            "UP42_PASSWORD": settings.password,
        },
    }
    return json.dumps(ready)


async def _serve_until_told(settings: EmulatorSettings, parent: int | None) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, nursery.cancel_scope)
        if parent is not None:
            nursery.start_soon(_watch_parent, parent, nursery.cancel_scope)
        urls = await nursery.start(serve, settings)
        print(ready_line(settings, urls), flush=True)


async def _watch_signals(
    scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            # Sample data may be in the making, in a thread that cannot be cancelled.
            os._exit(0)


async def _watch_parent(parent: int, scope: trio.CancelScope) -> None:
    """Poll, because the kernel's own signal comes when the starting *thread* ends: too soon."""
    while os.getppid() == parent:  # noqa: ASYNC110  (the kernel offers no event)
        await trio.sleep(_PARENT_POLL_S)
    scope.cancel()
