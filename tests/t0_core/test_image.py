"""The container image of contrib/Dockerfile, as far as its text shows it."""

from __future__ import annotations

import re
from pathlib import Path

MADE = r"useradd --uid (\d+) .*?(\S+) &&"
DOCKERFILE = Path(__file__).parents[2] / "contrib/Dockerfile"


def test_the_image_runs_as_a_user() -> None:
    last_stage = re.split(r"^FROM .*$", DOCKERFILE.read_text(), flags=re.MULTILINE)[-1]
    users = re.findall(r"^USER +(\S+)$", last_stage, flags=re.MULTILINE)
    assert users, "root runs it otherwise"
    made = {name: int(uid) for uid, name in re.findall(MADE, last_stage)}
    assert made[users[-1]] > 0
