"""`jobs/<job>/`: the results of each processing job, named by the job's ID.

It is listed at the top if an asset came from processing; the name always works.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from up42fs.catalog.index import Index
from up42fs.catalog.jobs import Found, Jobs
from up42fs.fs.tree.layout import UNCOUNTED
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model import names
from up42fs.types import Asset


class JobDirectories:
    """The branch of JOBS and JOB nodes. A JOB's ID is the job's."""

    kinds = frozenset({Kind.JOBS, Kind.JOB})
    top: Mapping[str, Node] = {}

    def __init__(self, index: Index, jobs: Jobs) -> None:
        self._index = index
        self._jobs = jobs
        self._found: Found | None = None

    async def prepare(self, node: Node) -> bool:
        """Find the results; return whether they changed."""
        before = self._found
        self._found = await self._jobs.all()
        return before != self._found

    def children(self, node: Node) -> dict[str, Node]:
        """The jobs that have results here (a JOB's own children are its results)."""
        wishes = (
            names.NameWish(job, (0.0, job), names.safe_name(job) or "_")
            for job in self._found or ()
            if any(asset_id in self._index.assets for asset_id in self._ids(job))
        )
        return {name: Node(Kind.JOB, job) for job, name in names.assign(wishes).items()}

    def members(self, node: Node) -> Iterable[Asset]:
        """The results of a job."""
        assets = self._index.assets
        return [assets[asset_id] for asset_id in self._ids(node.id) if asset_id in assets]

    def find(self, parent: Node, name: str) -> Node | None:
        """None: every job is listed."""
        return None

    def exists(self, node: Node) -> bool:
        """Whether the job had results when they were last searched."""
        return node.kind is Kind.JOBS or self._found is None or node.id in self._found

    def links(self, node: Node) -> int:
        """2 plus the number of subdirectories, if known."""
        if node.kind is Kind.JOBS:
            return UNCOUNTED if self._found is None else 2 + len(self.children(node))
        return UNCOUNTED

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """When the newest result of a job came."""
        found = self.members(node) if node.kind is Kind.JOB else ()
        moments = [asset.created_at for asset in found]
        return (max(moments), max(moments)) if moments else None

    def _ids(self, job: str) -> frozenset[str]:
        return (self._found or {}).get(job, frozenset())
