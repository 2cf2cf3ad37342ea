"""Paths of a mount's stored data on disk, separate for each account."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from up42fs.catalog.snapshot.snapshot import Snapshot, snapshot_path
from up42fs.config import homes
from up42fs.config import settings as config
from up42fs.config.options import MostEgress
from up42fs.config.settings import Settings
from up42fs.engine.account import account_key
from up42fs.fs import readme
from up42fs.fs.sidecars.disk import OverlayDirectory
from up42fs.fs.sidecars.overlay import Overlay
from up42fs.metrics import Metrics
from up42fs.store.egress.budget import EgressLimit
from up42fs.store.egress.egress import Egress
from up42fs.store.egress.spending import Book, Spending
from up42fs.store.egress.threshold import Threshold


def snapshot_of(settings: Settings) -> Snapshot | None:
    """The account's stored catalogue; None if nothing is to be stored."""
    if settings.storage_dir is None:
        return None
    path = snapshot_path(
        settings.storage_dir / "catalogue",
        api=settings.api,
        username=settings.username or "",
        workspace=settings.workspace,
    )
    return Snapshot(path)


def journal_path(settings: Settings, mountpoint: Path) -> Path:
    """The path of the journal of this account's edits through this mount point."""
    name = f"{config.file_stem(mountpoint)}-{account_key(settings)[:8]}.changes"
    return config.state_dir(os.environ) / name


def sidecars_path(settings: Settings) -> Path:
    """The directory of the account's sidecars."""
    base = homes.base(os.environ, "XDG_DATA_HOME", ".local/share")
    return base / "up42fs" / "sidecars" / account_key(settings)


def overlay_of(settings: Settings) -> Overlay | None:
    """Open the account's sidecars; None if they are off. Blocks; raises ConfigurationError."""
    if not settings.sidecars:
        return None
    return Overlay(OverlayDirectory(sidecars_path(settings)), settings.sidecars_size)


def readme_of(settings: Settings, mountpoint: Path) -> bytes | None:
    """The text of `README.txt` in the mount's root; None if it is not wanted."""
    if settings.noreadme:
        return None
    is_private = settings.allow_other and not settings.share_links
    name = f" ({settings.account})" if settings.account else ""
    return readme.text(
        readme.About(
            str(mountpoint),
            account=None if is_private else f"{settings.username}{name}",
            is_writable=settings.rw,
            has_sidecars=settings.sidecars,
            archives=settings.archives,
            names=settings.names,
            shows_all_orders=settings.orders == "all",
        )
    )


def egress_of(settings: Settings, metrics: Metrics) -> Egress | None:
    """The account's download budget; None if it is unlimited."""
    if settings.max_egress is None:
        return None
    return Egress(_spending(settings, settings.max_egress), metrics)


def threshold_of(
    settings: Settings, metrics: Metrics, name_reader: Callable[[], str | None]
) -> Threshold | None:
    """Count what the account fetches, to warn; None if nobody wants to be warned."""
    if settings.warn_egress is None:
        return None
    return Threshold(_spending(settings, settings.warn_egress, "-all"), metrics, name_reader)


def _spending(settings: Settings, most: MostEgress, of: str = "") -> Spending:
    limit = EgressLimit(*most)
    # Each period (days, hours) has its own book, and what is paid for another than what is fetched.
    name = f"{account_key(settings)}-{limit.period_s:.0f}{of}.json"
    book = Book(config.state_dir(os.environ) / "egress" / name)
    return Spending(limit, book, relies=not of)
