"""The access token: fetched once for all callers, renewed before it expires, dropped on a 401.

Of the API's endpoints, knows only the two of the identity server (contract §1.2, §1.3).

Theory. A token is *fresh* until 30 s (or a fifth of a short lifetime) before it expires, then
*ageing* until it expires, then *spent*. The lifetime counts from before the request was sent, on
trio's clock, so neither a slow response nor a wrong wall clock extends it. An ageing token is still
served if the identity server cannot be reached.

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
from up42fs.api.transport import ApiTransport, Call, JsonResponse, Limits, Refused
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
#: The client ID of UP42's SDK, the other client that is known to be accepted (contract §1.2).
OTHER_CLIENT_ID = "up42-sdk"
SCOPE = "openid"
#: Error codes that refuse the form of the request, not the credentials: another form may work.
_OF_THE_FORM = frozenset(
    {"invalid_scope", "invalid_client", "unauthorized_client", "unsupported_grant_type",
     "invalid_request"}
)  # fmt: skip
#: A longer token is in no header that a server accepts: most accept 8 KiB of headers.
MOST_TOKEN = 16384
DEFAULT_LIFE_S = 300.0
RENEW_AHEAD_S = 30.0
RENEW_AHEAD_SHARE = 0.2
#: How long a refusal of the credentials is repeated without a new request, so that retrying readers
#: do not lock the account, seconds.
REFUSAL_KEPT_S = patient_s(60.0)
#: After a renewal ahead of expiry failed, the pause before the next one, seconds.
RENEWAL_PAUSE_S = patient_s(5.0)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A UP42 console account; the password stays out of the repr."""

    username: str
    password: str = field(repr=False)
    #: Advice for the error message if they are refused; it depends on where they came from.
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
        #: (client ID, scope) to try in this order: not every client has the scope `openid`.
        self._ways = [(client_id, SCOPE), (client_id, None), (OTHER_CLIENT_ID, SCOPE)]
        self._ceiling_s = (limits or Limits()).ceiling_s
        self._transport = ApiTransport(
            http, plane=Plane.AUTH, metrics=metrics or Metrics(), limits=limits, jitter=jitter
        )
        self._turns = Turns()
        self._current: _Token | None = None
        self._fetches = 0
        self._error: Up42fsError | None = None
        self._refused_until_s = -math.inf
        self._renew_not_before_s = -math.inf

    async def token(self, until_s: float = math.inf) -> str:
        """Return a token that is valid now, or raise by `until_s`; SignInFailed if refused."""
        if (fresh := self._fresh()) is not None:
            return fresh
        # Callers without a fresh token queue here. The first one fetches, and the others get its
        # result or its error: fifty readers with a wrong password make one request, not fifty that
        # lock the account.
        seen = self._fetches
        async with self._turns.turn():
            if (fresh := self._fresh()) is not None:
                return fresh
            if self._error is not None and (self._fetches != seen or self._is_refused()):
                # The same news for everybody who queued behind the one who asked.
                raise copied(self._error) from None
            return await self._renew(until_s)

    def discard(self, token: str) -> bool:
        """Forget `token` after a 401; False if another one has replaced it already."""
        if self._current is not None and self._current.text == token:
            self._current = None
        return self._current is None

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
        # Not hurried: the caller has about as much time as this fetch may take.
        hurried = trio.current_effective_deadline() - started_s < 0.9 * self._ceiling_s
        try:
            # While the ageing token is still valid, callers do not wait long for its successor.
            ceiling_s = left_s / 2 if left_s > 0 else self._ceiling_s
            answer = await self._ask(ceiling_s=min(ceiling_s, max(until_s - started_s, 0.0)))
            token = _parse_token(answer.document, started_s)
        except (Unavailable, Offline, DeadlineExceeded) as error:
            if ageing is not None and ageing is self._current and left_s > 0:
                self._renew_not_before_s = trio.current_time() + RENEWAL_PAUSE_S
                return ageing.text
            # A timeout of a caller in a hurry is not shared: those queued behind it may have more
            # time.
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

    async def _ask(self, *, ceiling_s: float) -> JsonResponse:
        """Request a token in the first form that the server accepts, and keep that form."""
        until_s = trio.current_time() + ceiling_s
        for way in self._ways:
            try:
                left_s = max(until_s - trio.current_time(), 0.0)
                answer = await self._ask_by(*way, ceiling_s=left_s)
            except (AccessDenied, InvalidArgument) as error:
                refusal = self._refusal(error)
                code = _code(error)
                # Other codes refuse the user or the password: another form of request will not
                # help.
                if code not in _OF_THE_FORM:
                    raise refusal from None
                log.debug("signing in as client %s, scope %s: %s", *way, code)
            else:
                self._ways = [way]
                return answer
        raise refusal

    async def _ask_by(self, client_id: str, scope: str | None, *, ceiling_s: float) -> JsonResponse:
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
    # Only visible ASCII is safe in a header; other text would also be quoted in errors.
    if not isinstance(text, str) or not re.fullmatch(r"[!-~]+", text):
        raise InvalidAnswer(
            "the UP42 identity server answered without a usable token; check UP42_AUTH_URL"
        )
    if len(text) > MOST_TOKEN:
        raise InvalidAnswer(
            f"the UP42 identity server sent a token of {len(text)} characters, and no server "
            f"accepts more than {MOST_TOKEN} in a header; check UP42_AUTH_URL"
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
