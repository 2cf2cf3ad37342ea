"""`contrib/release`: what it refuses, before it writes, and what it promises to make."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("contrib/release", "contrib/setup.sh")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with these scripts and one named change, on the branch main."""
    place = tmp_path / "clone"
    for name in (*SCRIPTS, "pyproject.toml"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes((ROOT / name).read_bytes())
        (place / name).chmod(0o755)
    (place / "docs/changes").mkdir(parents=True)
    (place / "docs/changes/1.added.md").write_text("A change.\n")
    git(place, "init", "-q", "-b", "main")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "All")
    return place


def git(place: Path, *words: str) -> str:
    who = ("-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, *words], cwd=place, check=True, capture_output=True, text=True
    ).stdout


def release(place: Path, *words: str) -> tuple[int, str]:
    # Whatever it does beyond its questions would fail here: there is no Python in its PATH.
    tools = place.parent / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("sh", "git", "grep", "sed", "dirname", "ls", "cat"):
        tool = next(Path(p, name) for p in os.defpath.split(":") if p and Path(p, name).exists())
        if not (tools / name).exists():
            (tools / name).symlink_to(tool)
    done = subprocess.run(
        ["sh", "contrib/release", *words],
        cwd=place,
        env={"PATH": str(tools), "HOME": str(place.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.claim("S402")
@pytest.mark.parametrize("version", ["", "1", "1.2", "v1.2.3", "1.2.3-beta", "1.2.3\nrm"])
def test_what_is_no_version_shows_how_it_is_used(clone: Path, version: str) -> None:
    status, said = release(clone, version)
    assert status == 2
    assert "contrib/release VERSION" in said


@pytest.mark.claim("S402")
def test_it_refuses_before_it_writes(clone: Path) -> None:
    before = git(clone, "rev-parse", "HEAD")
    git(clone, "tag", "v1.0.0")
    assert release(clone, "1.0.0") == (1, "release: the tag v1.0.0 exists\n")
    (clone / "new").touch()
    assert "changes that are not committed" in release(clone, "1.0.1")[1]
    (clone / "new").unlink()
    git(clone, "switch", "-qc", "other")
    assert "this is not the branch main" in release(clone, "1.0.1")[1]
    git(clone, "switch", "-q", "main")
    git(clone, "rm", "-q", "docs/changes/1.added.md")
    (clone / "docs/changes").mkdir(parents=True, exist_ok=True)
    (clone / "docs/changes/README.md").write_text("How to name changes.\n")
    git(clone, "add", "-A")
    git(clone, "commit", "-qm", "None")
    assert "docs/changes names no change" in release(clone, "1.0.1")[1]
    assert git(clone, "rev-parse", "HEAD~1") == before
    assert git(clone, "tag") == "v1.0.0\n"


@pytest.mark.claim("S402")
def test_it_makes_all_artefacts_and_uploads_nothing() -> None:
    text = (ROOT / "contrib/release").read_text(encoding="utf-8")
    for made in ("towncrier build", "git tag -a", "-m build", "contrib/deb", "cyclonedx-py", "SHA"):
        assert made in text
    commands = [line for line in text.splitlines() if not line.lstrip().startswith(("#", "say "))]
    assert not [line for line in commands if re.search(r"twine|git push|upload", line)]
