"""A small synchronous client of the control endpoint, for tests and benchmarks.

Knows the paths under `/_emulator` and nothing else of the emulator; any thread may use it.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

TIMEOUT_S = 30.0


class ControlError(Exception):
    """The emulator refused a control request; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A client of the `control_url` that `serve` and the command report."""

    control_url: str

    def log(
        self, since: int = 0, *, plane: str | None = None, route: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the requests from position `since` on, in order of arrival."""
        query = {"since": since, "plane": plane or "", "route": route or ""}
        answer = self._call("GET", f"/log?{urlencode(query)}")
        requests: list[dict[str, Any]] = answer["requests"]
        return requests

    def position(self) -> int:
        """Return the position that the next request will have, for `log(since=...)`."""
        return int(self._call("GET", "/log?plane=none")["next"])

    def count(self, route: str | None = None, since: int = 0) -> int:
        """Return the number of requests since position `since`, of one route if given."""
        return len(self.log(since, route=route))

    def clear(self) -> None:
        """Delete all requests so far from the log."""
        self._call("DELETE", "/log")

    def faults(self, **switches: Any) -> dict[str, Any]:
        """Merge switches; return all of them as they are then."""
        if not switches:
            return self._call("GET", "/faults")
        return self._call("PATCH", "/faults", switches)

    def storage(self, op: str | None = None, **fields: Any) -> dict[str, Any]:
        """Change the storage by an operation of `control.OPERATIONS`; without one, summarise it."""
        if op is None:
            query = "?sha256=1" if fields.get("sha256") else ""
            return self._call("GET", "/storage" + query)
        return self._call("POST", "/storage", {"op": op, **fields})

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310  (our own http URL)
            self.control_url + path, data, {"Content-Type": "application/json"}, method=method
        )
        # The emulator is on loopback: a proxy from the environment must not get this request.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_S) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                raise ControlError(f"{method} {path}: {error.read().decode()}") from None
