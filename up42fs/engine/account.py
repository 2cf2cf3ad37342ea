"""One UP42 account over the network: its client and its sign-in.

Connects the API's parts for callers that need an account without a mount: `login`, `doctor` and the
engine.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from up42fs.api.auth import Credentials, TokenSource
from up42fs.api.client import Client
from up42fs.api.network import Reached, make_http
from up42fs.api.pages import Page
from up42fs.api.shared_pace import PaceBook
from up42fs.api.transport import Limits
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.snapshot.stored import Stored
from up42fs.config.settings import Settings
from up42fs.deadlines import within
from up42fs.errors import (
    ConfigurationError,
    DeadlineExceeded,
    NotFound,
    Offline,
    Unavailable,
    Up42fsError,
)
from up42fs.metrics import Metrics
from up42fs.types import Asset, Order

log = logging.getLogger(__name__)

#: The longest that sign-in and the first responses may take, seconds.
PREFLIGHT_S = 12.0
#: If sign-in and one API response take longer than this, the stored catalogue is shown, seconds.
PREFLIGHT_KNOWN_S = 3.0


@dataclass(frozen=True, slots=True)
class AccountConnection:
    """The clients of one account, connected to UP42."""

    settings: Settings
    tokens: TokenSource
    client: Client
    reached: Reached
    metrics: Metrics

    async def preflight(self, limit_s: float = PREFLIGHT_S) -> bool:
        """Sign in and make one request within `limit_s`; return whether there is anything."""
        late = (
            f"no answer from {self.settings.auth} and {self.settings.api} within "
            f"{limit_s:.0f} s; check the network, HTTPS_PROXY and UP42_REGION"
        )
        with within(limit_s, late):
            await self.tokens.token()
            try:
                return (await self.client.assets_page(0, size=1)).total != 0
            except NotFound:
                # The storage of some accounts is listed only by STAC (contract, fact 6).
                return bool((await self.client.collections_page(limit=1)).items)


@dataclass(frozen=True, slots=True)
class Holdings:
    """The numbers of an account's orders and assets; None if UP42 does not count them."""

    orders: int | None
    assets: int | None

    def __str__(self) -> str:
        counts = ((self.orders, "order"), (self.assets, "asset"))
        said = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in counts if n is not None]
        return ", ".join(said) or "its storage is listed by STAC alone"


@asynccontextmanager
async def connect(settings: Settings, metrics: Metrics) -> AsyncIterator[AccountConnection]:
    """Connect to the account of `settings`; raises ConfigurationError if there is none."""
    credentials = credentials_of(settings)
    reached = Reached(settings.api)
    async with make_http(reached=reached) as http:
        tokens = TokenSource(http, settings.auth, credentials, metrics=metrics)
        client = Client(
            http,
            tokens,
            settings.api,
            metrics=metrics,
            workspace=settings.workspace,
            limits=Limits(book=pace_of(settings)),
        )
        yield AccountConnection(settings, tokens, client, reached, metrics)


def pace_of(settings: Settings) -> PaceBook | None:
    """The pace of this account's processes on this host; None if they share no directory."""
    if settings.storage_dir is None:
        return None
    return PaceBook(settings.storage_dir / "pace" / account_key(settings))


def account_key(settings: Settings) -> str:
    """A key that separates the accounts whose cached bytes lie in one directory."""
    identity = f"{settings.api}\0{(settings.username or '').casefold()}"
    return hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()[:24]


def credentials_of(settings: Settings) -> Credentials:
    """Return user name and password; raises ConfigurationError with the ways to set them."""
    if not settings.username or not settings.password:
        if settings.account_hint:
            raise ConfigurationError(f"no UP42 account given: {settings.account_hint}")
        user = os.environ.get("SUDO_USER")
        if user and os.geteuid() == 0:
            raise ConfigurationError(
                f"no UP42 account given: under sudo this is root, who has neither the account that "
                f"{user} signed in to nor {user}'s variables; run up42fs as {user}, without sudo, "
                "or use --credentials FILE, or sign root in: sudo up42fs login"
            )
        raise ConfigurationError(
            "no UP42 account given: run up42fs login, or set UP42_USERNAME and UP42_PASSWORD, "
            "or use --credentials FILE; to look around without an account: up42fs demo"
        )
    if settings.account_hint:
        return Credentials(settings.username, settings.password, settings.account_hint)
    return Credentials(settings.username, settings.password)


async def sign_in(settings: Settings) -> Holdings:
    """Sign in and count the holdings; raises an `Up42fsError` with the reason of a failure."""
    async with connect(settings, Metrics()) as connection:
        await connection.preflight()
        client = connection.client
        orders = await _total(client.orders_page(0, size=1))
        return Holdings(orders, await _total(client.assets_page(0, size=1)))


async def _total(answer: Awaitable[Page[Order]] | Awaitable[Page[Asset]]) -> int | None:
    try:
        return (await answer).total
    except NotFound:
        return None


def nothing_found(settings: Settings) -> str:
    """Make the message for an account, or a workspace, without assets."""
    if settings.workspace:
        return (
            f"there is no asset in workspace {settings.workspace} of {settings.username}, or no "
            f"such workspace at {settings.api}; without the option workspace all is shown"
        )
    return (
        f"the account {settings.username} has no asset at {settings.api}; if it should, "
        "check account and region (UP42_USERNAME, UP42_REGION). What is delivered later shows"
    )


async def load_and_sign_in(
    connection: AccountConnection, snapshot: Snapshot | None
) -> tuple[Stored, bool]:
    """Load the stored catalogue while signing in; return it, and whether UP42 has no assets.

    If UP42 cannot be reached, raises the error only if the stored catalogue is incomplete.
    """
    is_empty = False
    errors: list[Up42fsError] = []
    met = trio.Event()

    async def meet() -> None:
        try:
            nonlocal is_empty
            is_empty = not await connection.preflight(PREFLIGHT_S)
        except (Offline, DeadlineExceeded, Unavailable) as error:
            errors.append(error)
        met.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(meet)
        stored = await trio.to_thread.run_sync(snapshot.load) if snapshot else Stored()
        is_known = stored.assets_complete and stored.orders_complete
        with trio.move_on_after(PREFLIGHT_KNOWN_S if is_known else PREFLIGHT_S + 1):
            await met.wait()
        if not met.is_set():
            errors.append(DeadlineExceeded(f"no answer from UP42 in {PREFLIGHT_KNOWN_S:.0f} s"))
        nursery.cancel_scope.cancel()
    if errors and not is_known:
        raise errors[0]
    if errors:
        log.warning("mounting what is known of the storage: %s", errors[0])
    return stored, is_empty
