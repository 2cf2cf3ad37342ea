"""A node of a cluster: what pods that read see while the pod that mounts comes and goes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from harness import IN_A_NAMESPACE, REPOSITORY, check

pytestmark = [pytest.mark.mount, IN_A_NAMESPACE]


@pytest.mark.claim("S274")
def test_no_pod_takes_an_empty_directory_for_the_storage(start, tmp_path: Path) -> None:
    """A backup with `rsync --delete` fails while nothing is mounted, and keeps all it has."""
    store = start("--synthetic", "1")
    for number in range(6):
        store.remote.storage("add_asset", name=f"{number}.bin", size=1000, tags=["mine"])
    script = Path(__file__).with_name("cluster_script.py")
    entrypoint = REPOSITORY / "contrib/kubernetes/entrypoint"
    told = check(
        *("unshare", "-m", "--propagation", "private"),
        *(sys.executable, script, tmp_path, entrypoint),
        env=store.env,
        timeout_s=110,
    )
    seen = json.loads(told.splitlines()[-1])
    files = seen["first"]["kept"]
    assert seen["first"]["status"] == 0, seen
    assert files == 6
    assert seen["live"] == 0
    assert seen["dead"] != 0
    for moment in ("after SIGTERM", "after preStop"):
        assert seen[moment]["status"] != 0, (moment, seen)
        assert seen[moment]["kept"] == files, (moment, seen)
    assert seen["again"] == seen["first"]
