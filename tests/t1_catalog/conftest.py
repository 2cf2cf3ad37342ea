"""The fixtures of this ring."""

from catalog_fixtures import closed_snapshots

__all__ = ["closed_snapshots"]
