"""Presigned links: one lease per object for all readers, renewed ahead, never shown.

Its clock goes on while the machine sleeps.

Theory. A link's life is counted from the moment the *request for it* was sent: that moment is
before the server's, so a link's life is never overestimated. Per object there is at most one lease
and at most one running signing. A lease is used while it lives; from `renew_ahead_s` before its end
the next use starts a signing in the background. A refused lease is discarded only if it is still
the current one, so that of many readers holding the same stale link the first causes a signing and
the others join it. The result of a signing is returned to the tasks that waited for it even if it
has already expired: the object store decides.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import trio

from up42fs.deadlines import boottime_s, patient_s
from up42fs.errors import Up42fsError
from up42fs.flights import Flights
from up42fs.net.expiry import renew_ahead_s
from up42fs.store.http.tally import Tallies
from up42fs.types import Signer

#: The longest that one signing may take, retries included; and the pause after a failed renewal.
SIGN_TIMEOUT_S = patient_s(30.0)
RENEWAL_PAUSE_S = patient_s(5.0)
#: The share of its life that a link must have left if it is given to another program.
LEAST_SHARE = 1 / 3
#: Leases kept; the least recently used are evicted first.
MOST_LEASES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """A presigned link with the times of its expiry and its renewal, on the leases' clock."""

    url: str = field(repr=False)
    expires_at_s: float
    renew_at_s: float
    life_s: float = math.inf


class Leases:
    """The leases of one store."""

    def __init__(
        self,
        nursery: trio.Nursery,
        sign: Signer,
        tallies: Tallies,
        clock: Callable[[], float] = boottime_s,
    ) -> None:
        self._sign = sign
        self._tallies = tallies
        self._clock = clock
        self._leases: OrderedDict[str, Lease] = OrderedDict()
        self._signings: Flights[str, Lease] = Flights(
            nursery, "signing a link to {key}", timeout_s=SIGN_TIMEOUT_S
        )

    def __len__(self) -> int:
        """Number of links that have not expired."""
        now_s = self._clock()
        return sum(now_s < lease.expires_at_s for lease in self._leases.values())

    def holds(self, object_id: str) -> bool:
        """Whether there is a lease that works and is not due for renewal."""
        lease = self._leases.get(object_id)
        return lease is not None and self._clock() < min(lease.renew_at_s, lease.expires_at_s)

    async def get(self, object_id: str) -> Lease:
        """Return a lease that should work now; raises the signer's `Up42fsError`."""
        return self._current(object_id, 0.0) or await self._signed(object_id)

    async def lasting(self, object_id: str, lasts_s: float) -> Lease:
        """Return a lease that works for `lasts_s` seconds more, or for a third of a short life.

        If no new link can be had, one that still works is returned; raises like `get`.
        """
        lease = self._current(object_id, lasts_s)
        if lease is not None:
            return lease
        try:
            return await self._signed(object_id)
        except Up42fsError:
            lease = self._current(object_id, 0.0)
            if lease is None:
                raise
            return lease

    def remaining_s(self, lease: Lease) -> float:
        """Seconds until the lease expires."""
        return lease.expires_at_s - self._clock()

    def _current(self, object_id: str, lasts_s: float) -> Lease | None:
        lease = self._leases.get(object_id)
        now_s = self._clock()
        if lease is None:
            return None
        if now_s + min(lasts_s, lease.life_s * LEAST_SHARE) >= lease.expires_at_s:
            return None
        self._leases.move_to_end(object_id)
        if now_s >= lease.renew_at_s:
            self._signings.start(object_id, partial(self._renew, object_id))
        return lease

    async def _signed(self, object_id: str) -> Lease:
        return await self._signings.join(object_id, partial(self._renew, object_id))

    def discard(self, object_id: str, lease: Lease) -> None:
        """Forget `lease`, which the store refused, unless it was replaced already."""
        current = self._leases.get(object_id)
        if current is not None and current.url == lease.url:
            del self._leases[object_id]
            self._tallies.of(object_id).count("store.renewals")  # the next `get` signs anew

    def forget(self, object_id: str) -> None:
        """Forget the object's lease."""
        self._leases.pop(object_id, None)

    def drop_all(self) -> None:
        """Forget every lease."""
        self._leases.clear()

    async def _renew(self, object_id: str) -> Lease:
        asked_at_s = self._clock()
        tally = self._tallies.of(object_id)
        tally.count("store.signs")
        if object_id in self._leases:
            tally.count("store.renewals")
        try:
            signed = await self._sign(object_id)
        except BaseException:  # also if the flight's time is over
            self._pause(object_id)
            raise
        life_s = signed.lifetime_s if math.isfinite(signed.lifetime_s) else 0.0
        ends_s = asked_at_s + life_s
        lease = Lease(signed.url, ends_s, ends_s - renew_ahead_s(life_s), life_s)
        self._keep(object_id, lease)
        return lease

    def _keep(self, object_id: str, lease: Lease) -> None:
        self._leases[object_id] = lease
        self._leases.move_to_end(object_id)
        now_s = self._clock()
        while len(self._leases) > 1:
            oldest = next(iter(self._leases.values()))
            if now_s < oldest.expires_at_s and len(self._leases) <= MOST_LEASES:
                break
            self._leases.popitem(last=False)

    def _pause(self, object_id: str) -> None:
        # The old lease still works: do not request a new one at its every use.
        lease = self._leases.get(object_id)
        if lease is not None:
            again_s = self._clock() + RENEWAL_PAUSE_S
            self._leases[object_id] = replace(lease, renew_at_s=again_s)
