"""The life of the access token: fetched once however many ask, renewed ahead, dropped on 401.

Knows nothing of the API's endpoints but the two of the identity server (contract §1.2, §1.3).

Theory. A token is *fresh* until 30 s (or a fifth of a short life) before its end, then *ageing*
until its end, then *spent*. Its life is counted from before the request was sent, on trio's
clock, so neither a slow answer nor a wrong wall clock lengthens it. Who needs a token and finds
none fresh queues on one lock; the first fetches, the others find its result, and its failure
too: fifty readers with a wrong password are one request, not fifty on the way to a locked
account. A refusal is remembered for a minute for the same reason. An ageing token is still
served when the identity server cannot be reached.
Rejected: the refresh token (undocumented, and the password grant is needed anyhow, §1.2), and a
background renewer (an idle mount would sign in for ever).
"""

from __future__ import annotations

import logging
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import trio

from up42fs.api.links import require_secure
from up42fs.api.transport import Answer, Call, Limits, Refused, Transport
from up42fs.deadlines import Turns, patient_s
from up42fs.errors import (
    AccessDenied,
    DeadlineExceeded,
    InvalidAnswer,
    InvalidArgument,
    Offline,
    SignInFailed,
    Unavailable,
    Up42fsError,
    copied,
)
from up42fs.metrics import Metrics
from up42fs.net.retry import Plane

log = logging.getLogger(__name__)

REALM = "/realms/public/protocol/openid-connect"
CLIENT_ID = "up42-api"
#: What UP42's SDK calls itself: the other client that is known to be let in (contract §1.2).
OTHER_CLIENT_ID = "up42-sdk"
SCOPE = "openid"
#: Refusals of how was asked, and not of who: the next way may do.
_OF_THE_FORM = frozenset(
    {"invalid_scope", "invalid_client", "unauthorized_client", "unsupported_grant_type",
     "invalid_request"}
)  # fmt: skip
DEFAULT_LIFE_S = 300.0
RENEW_AHEAD_S = 30.0
RENEW_AHEAD_SHARE = 0.2
#: How long a refusal of the credentials is repeated without asking again, seconds.
REFUSAL_KEPT_S = patient_s(60.0)
#: After a failed renewal ahead of time, pause before the next, seconds.
RENEWAL_PAUSE_S = patient_s(5.0)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A UP42 console account; the password stays out of the repr."""

    username: str
    password: str = field(repr=False)
    #: What to check where they are refused: it depends on where they came from.
    check: str = "check UP42_USERNAME and UP42_PASSWORD, and that UP42_REGION is the account's"


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    renew_at_s: float
    ends_at_s: float


class TokenSource:
    """Access tokens of one account, from one identity server."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        auth_url: str,
        credentials: Credentials,
        *,
        metrics: Metrics | None = None,
        limits: Limits | None = None,
        client_id: str = CLIENT_ID,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._realm_url = require_secure(auth_url, setting="UP42_AUTH_URL") + REALM
        self._credentials = credentials
        #: Ways to ask, the best first: `openid` is what `userinfo` needs, and not every client has.
        self._ways = [(client_id, SCOPE), (client_id, None), (OTHER_CLIENT_ID, SCOPE)]
        self._ceiling_s = (limits or Limits()).ceiling_s
        self._transport = Transport(
            http, plane=Plane.AUTH, metrics=metrics or Metrics(), limits=limits, jitter=jitter
        )
        # `userinfo` is asked with a token, and a 401 there means the token, not the password.
        self._userinfo = Transport(
            http, plane=Plane.API, metrics=metrics or Metrics(), limits=limits, jitter=jitter
        )
        self._turns = Turns()
        self._current: _Token | None = None
        self._fetches = 0
        self._error: Up42fsError | None = None
        self._refused_until_s = -math.inf
        self._renew_not_before_s = -math.inf

    async def token(self, until_s: float = math.inf) -> str:
        """A token that is good now; tells what is wrong by `until_s`, of trio's clock.

        Raises SignInFailed where the credentials are refused, else what `Transport.fetch` does.
        """
        if (fresh := self._fresh()) is not None:
            return fresh
        seen = self._fetches
        async with self._turns.turn():
            if (fresh := self._fresh()) is not None:
                return fresh
            if self._error is not None and (self._fetches != seen or self._is_refused()):
                # The same news for everybody who queued behind the one who asked.
                raise copied(self._error) from None
            return await self._renew(until_s)

    def discard(self, token: str) -> None:
        """Forget `token` after a 401, unless a newer one has taken its place."""
        if self._current is not None and self._current.text == token:
            self._current = None

    async def user_id(self) -> str:
        """`sub` of the user info, the default workspace ID (contract §1.3)."""
        answer = await self._userinfo.fetch(
            Call("asking who is signed in", "GET", f"{self._realm_url}/userinfo", bearer=self)
        )
        sub = answer.document.get("sub")
        if not isinstance(sub, str) or not sub:
            raise InvalidAnswer(
                "the UP42 identity server did not say who is signed in; check UP42_AUTH_URL"
            )
        return sub

    def _fresh(self) -> str | None:
        now_s = trio.current_time()
        token = self._current
        if token is None or now_s >= token.ends_at_s:
            return None
        return token.text if now_s < max(token.renew_at_s, self._renew_not_before_s) else None

    def _is_refused(self) -> bool:
        return trio.current_time() < self._refused_until_s

    async def _renew(self, until_s: float) -> str:
        ageing = self._current
        started_s = trio.current_time()
        left_s = ageing.ends_at_s - started_s if ageing is not None else 0.0
        # A call with a ceiling like this one's has as much time as there is.
        hurried = trio.current_effective_deadline() - started_s < 0.9 * self._ceiling_s
        try:
            # While an ageing token still serves, callers do not wait long for its successor.
            ceiling_s = left_s / 2 if left_s > 0 else self._ceiling_s
            answer = await self._ask(ceiling_s=min(ceiling_s, max(until_s - started_s, 0.0)))
            token = _parse_token(answer.document, started_s)
        except (Unavailable, Offline, DeadlineExceeded) as error:
            if ageing is not None and ageing is self._current and left_s > 0:
                self._renew_not_before_s = trio.current_time() + RENEWAL_PAUSE_S
                return ageing.text
            # Who had little time speaks for itself alone: those behind it may have more.
            if isinstance(error, Offline | InvalidAnswer) or not hurried:
                self._settle(error)
            raise
        except Up42fsError as error:
            self._settle(error)
            raise
        self._settle(None)
        self._current = token
        return token.text

    def _settle(self, error: Up42fsError | None) -> None:
        self._fetches += 1
        self._error = error
        if isinstance(error, SignInFailed):
            self._current = None
            self._refused_until_s = trio.current_time() + REFUSAL_KEPT_S

    async def _ask(self, *, ceiling_s: float) -> Answer:
        """Ask in the first way that is not refused for what it is; that way is kept."""
        until_s = trio.current_time() + ceiling_s
        for way in self._ways:
            try:
                left_s = max(until_s - trio.current_time(), 0.0)
                answer = await self._ask_by(*way, ceiling_s=left_s)
            except (AccessDenied, InvalidArgument) as error:
                refusal = self._refusal(error)
                code = _code(error)
                # Without a scope: where it is the scope, or may be. Else who is asking.
                if code not in _OF_THE_FORM:
                    raise refusal from None
                log.debug("signing in as client %s, scope %s: %s", *way, code)
            else:
                self._ways = [way]
                return answer
        raise refusal

    async def _ask_by(self, client_id: str, scope: str | None, *, ceiling_s: float) -> Answer:
        form = {
            "grant_type": "password",
            "username": self._credentials.username,
            "password": self._credentials.password,
            "client_id": client_id,
        }
        if scope is not None:
            form["scope"] = scope
        call = Call("signing in", "POST", f"{self._realm_url}/token", form=form)
        return await self._transport.fetch(call, ceiling_s=ceiling_s)

    def _refusal(self, error: Up42fsError) -> SignInFailed:
        cause = error.__cause__
        words = cause.words if isinstance(cause, Refused) else ""
        if self._credentials.password and self._credentials.password in words:
            words = ""
        said = f" ({words})" if words else ""
        if (code := _code(error)) in _OF_THE_FORM:
            return SignInFailed(
                f"the UP42 identity server refused how up42fs signs in, {code}{said}, and said "
                f"nothing of the password of {self._credentials.username}; check UP42_AUTH_URL, "
                "and whether there is a newer up42fs"
            )
        return SignInFailed(
            f"UP42 refused the user name or password of {self._credentials.username}{said}; "
            f"{self._credentials.check}"
        )


def _code(error: Up42fsError) -> str | None:
    cause = error.__cause__
    return cause.code if isinstance(cause, Refused) else None


def _parse_token(document: dict[str, Any], started_s: float) -> _Token:
    text = document.get("access_token")
    # Anything but visible ASCII would break the header it is put into, and be quoted in errors.
    if not isinstance(text, str) or not re.fullmatch(r"[!-~]+", text):
        raise InvalidAnswer(
            "the UP42 identity server answered without a usable token; check UP42_AUTH_URL"
        )
    life_s = _life_s(document.get("expires_in"))
    ahead_s = min(RENEW_AHEAD_S, life_s * RENEW_AHEAD_SHARE)
    return _Token(text, renew_at_s=started_s + life_s - ahead_s, ends_at_s=started_s + life_s)


def _life_s(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return DEFAULT_LIFE_S
    try:
        life_s = float(value)
    except (ValueError, OverflowError):
        return DEFAULT_LIFE_S
    return life_s if 0 < life_s < 7 * 86400 else DEFAULT_LIFE_S
