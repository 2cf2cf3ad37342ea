"""The three servers of the emulator on one nursery: API, identity server, object store.

As in reality each has its own origin, here its own port of 127.0.0.1. This module routes requests,
writes the journal, applies the switches, and passes responses to the wire.
"""

from __future__ import annotations

import gzip
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import trio

from up42fs.emulator import assets, auth, catalog, control, jobs, objects, orders, stac
from up42fs.emulator.bloat import bloated
from up42fs.emulator.external import ExternalStore
from up42fs.emulator.faults import FaultBox, Faults
from up42fs.emulator.folder import folder_storage
from up42fs.emulator.journal import Record
from up42fs.emulator.sample import default_sample_dir, sample_storage
from up42fs.emulator.service import (
    ApiError,
    EmulatedService,
    Endpoint,
    ReceivedCall,
    Urls,
    error_response,
    struck_response,
)
from up42fs.emulator.storage import EmulatedAccount, Storage
from up42fs.emulator.synthetic import SyntheticSize, synthetic_storage
from up42fs.emulator.wire import Exchange, Request, Response, WireConnection

HOST = "127.0.0.1"
#: Long enough for a burst of clients; Linux cuts it to net.core.somaxconn.
BACKLOG = 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """The storage to serve, and the ports; port 0 takes any free one.

    The storage is `data_dir` (a directory of files), or `synthetic` (generated rows), or the sample
    storage, kept in `sample_dir` (default: the user's cache directory). With `external`, links lead
    to that store and not to the one served here.
    """

    api_port: int = 0
    auth_port: int = 0
    store_port: int = 0
    data_dir: Path | None = None
    sample_dir: Path | None = None
    synthetic: SyntheticSize | None = None
    external: ExternalStore | None = None
    username: str = "demo@up42fs.example"
    password: str = field(default="demo", repr=False)
    faults: Faults = field(default_factory=Faults)


async def serve(
    settings: EmulatorSettings,
    storage: Storage | None = None,
    *,
    task_status: trio.TaskStatus[Urls] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; report the URLs by `task_status` once all three servers accept.

    `storage` replaces the storage that `settings` describe. Raises OSError if a port is taken, and
    the errors of making the sample.
    """
    if storage is None:
        storage = await trio.to_thread.run_sync(load_storage, settings)
    async with trio.open_nursery() as nursery:
        listeners = [
            await _listen(port)
            for port in (settings.api_port, settings.auth_port, settings.store_port)
        ]
        urls = Urls(*(f"http://{HOST}:{group[0].socket.getsockname()[1]}" for group in listeners))
        service = EmulatedService(
            storage, FaultBox(settings.faults), urls, external=settings.external
        )
        connection_ids = itertools.count(1)
        for plane, group in zip(_planes(service), listeners, strict=True):
            accept = partial(_accept, plane, connection_ids)
            nursery.start_soon(partial(trio.serve_listeners, accept, group))
        task_status.started(urls)


def run(settings: EmulatorSettings, ready: Callable[[Urls], None]) -> None:
    """Serve until interrupted; calls `ready` with the URLs. Blocks."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            ready(await nursery.start(serve, settings))

    trio.run(main)


def load_storage(settings: EmulatorSettings) -> Storage:
    """Return the storage that `settings` describe; may make the sample, for up to a minute."""
    account = EmulatedAccount(settings.username, settings.password)
    if settings.data_dir is not None:
        return folder_storage(account, settings.data_dir)
    if settings.synthetic is not None:
        return synthetic_storage(account, settings.synthetic)
    return sample_storage(account, settings.sample_dir or default_sample_dir())


async def _listen(port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=HOST, backlog=BACKLOG)
    except OSError as error:
        words = f"cannot listen on {HOST}:{port} ({error.strerror}); choose another port, or 0"
        raise OSError(error.errno, words) from None


async def _accept(
    plane: EmulatedPlane, connection_ids: itertools.count[int], stream: trio.SocketStream
) -> None:
    await WireConnection(stream, next(connection_ids), plane.handle).run()


@dataclass(frozen=True, slots=True)
class EmulatedPlane:
    """One of the three servers: its routes and the service behind them."""

    name: str
    service: EmulatedService
    routes: tuple[Endpoint, ...]

    async def handle(self, request: Request) -> Exchange:
        """Respond to one request, journal it, and decide how the wire treats it."""
        await trio.lowlevel.checkpoint()
        service = self.service
        request = self._below_prefix(request)
        route, params = self._route(request)
        call = ReceivedCall(service, request, params)
        if route is not None and route.name == "control":
            return Exchange(self._respond(route, call))
        record = service.journal.add(self._record(request, route, params))
        call.struck = service.box.strike(self.name, record.route, record.object_id)
        record.struck = call.struck
        effects = service.faults.effects(self.name, call.struck)
        response = self._decide(route, call)
        record.status = 0 if effects.reset_before_headers else response.status
        return Exchange(self._signed_off(response), effects, record.count)

    def _decide(self, route: Endpoint | None, call: ReceivedCall) -> Response:
        faults = call.strikes
        if faults.fail_applied:
            self._respond(route, call)
        if faults.fail_status is not None or faults.drop_request:
            return struck_response(faults, call.service.now_us(), call.service.box.random)
        if faults.redirect_to is not None:
            return Response(302, (("Location", faults.redirect_to + call.request.raw_target),))
        response = self._respond(route, call)
        if self.name == "api" and call.faults.strict_accept:
            response = _granted(
                response, call.request.headers.get("accept"), call.faults.error_shape
            )
        if faults.bad_content_type and self.name != "store":
            kept = tuple(pair for pair in response.headers if pair[0] != "Content-Type")
            response = replace(response, headers=(*kept, ("Content-Type", "text/html")))
        return _encoded(bloated(response, faults.bloat), faults.body_encoding)

    def _respond(self, route: Endpoint | None, call: ReceivedCall) -> Response:
        shape = call.faults.error_shape
        try:
            if route is None:
                raise ApiError(404, f"No resource {call.request.method} {call.request.path}.")
            if not route.is_public:
                auth.require_token(call.service, call.request.headers.get("authorization"))
                self._refuse_at_random(route, call)
            return route.handle(call)
        except ApiError as error:
            return error_response(shape, error.status, error.detail, error.headers)
        except Exception:
            # A defect of the emulator must be visible as such, and must not end other requests.
            log.exception("emulator: %s %s failed", call.request.method, call.request.path)
            return error_response(shape, 500, "The emulator itself failed; see its log.")

    def _refuse_at_random(self, route: Endpoint, call: ReceivedCall) -> None:
        share = call.faults.stac_random_401_share
        if route.name.startswith("stac.") and call.service.box.random.random() < share:
            raise ApiError(401, "Unauthorized")

    def _signed_off(self, response: Response) -> Response:
        headers = (*response.headers, ("Date", self.service.date()))
        if self.name == "store":
            headers = (*headers, ("Server", "UploadServer"))
        return replace(response, headers=headers)

    def _below_prefix(self, request: Request) -> Request:
        """Remove `api_prefix` from the request's path; without the prefix, no route matches."""
        prefix = self.service.faults.api_prefix
        if self.name != "api" or not prefix or request.path.startswith(control.PREFIX):
            return request
        if request.raw_target.startswith(prefix + "/"):
            return replace(request, raw_target=request.raw_target[len(prefix) :])
        return replace(request, raw_target="/outside" + request.raw_target)

    def _route(self, request: Request) -> tuple[Endpoint | None, dict[str, str]]:
        if self.name == "store":
            return objects.route(request.method), {}
        # A HEAD request gets the head of the response to GET.
        method = "GET" if request.method == "HEAD" else request.method
        for route in self.routes:
            params = route.match(method, request.path)
            if params is not None:
                return route, params
        return None, {}

    def _record(self, request: Request, route: Endpoint | None, params: dict[str, str]) -> Record:
        record = Record(
            position=0,
            plane=self.name,
            method=request.method,
            path=request.path,
            route=route.name if route else "unknown",
            t_s=self.service.now_s(),
            connection_id=request.connection_id,
            range=request.headers.get("range"),
            object_id=params.get("id") or params.get("item"),
        )
        if self.name == "store":
            stored = self.service.storage.objects.get(objects.object_path(request))
            record.object_id = stored.file_id if stored else None
        else:
            record.query = request.raw_query or None
        return record


def _granted(response: Response, accept: str | None, shape: str) -> Response:
    """Return the response if the request's Accept header allows its type, else 406."""
    media_type = dict(response.headers).get("Content-Type")
    if not 200 <= response.status < 300 or media_type is None or accept is None:
        return response
    ranges = {part.partition(";")[0].strip() for part in accept.split(",")}
    if ranges & {media_type, media_type.partition("/")[0] + "/*", "*/*"}:
        return response
    return error_response(shape, 406, f"{media_type} is not among what you accept: {accept}")


def _encoded(response: Response, encoding: str | None) -> Response:
    """Return the response with its body gzipped (if it is in memory), or only labelled so."""
    if encoding is None or not len(response.body):
        return response
    body = response.body
    layers = {"gzip": 1, "gzip-gzip": 2}.get(encoding, 0)
    for _ in range(layers):
        body = gzip.compress(body) if isinstance(body, bytes) else body
    named = ", ".join(["gzip"] * max(1, layers))
    return replace(response, headers=(*response.headers, ("Content-Encoding", named)), body=body)


def _planes(service: EmulatedService) -> tuple[EmulatedPlane, EmulatedPlane, EmulatedPlane]:
    api = (
        *(*control.ROUTES, *stac.ROUTES, *assets.ROUTES),
        *(*orders.ROUTES, *catalog.ROUTES, *jobs.ROUTES),
    )
    return (
        EmulatedPlane("api", service, api),
        EmulatedPlane("auth", service, auth.ROUTES),
        EmulatedPlane("store", service, ()),
    )
