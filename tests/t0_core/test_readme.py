"""`README.txt`: two screens of ASCII whatever the options, and no account where others may read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.config.settings import Settings
from up42fs.engine.places import readme_of
from up42fs.fs.readme import About, text

ABOUT = st.builds(
    About,
    st.text(max_size=300),
    st.none() | st.text(max_size=300),
    st.booleans(),
    st.booleans(),
    st.sampled_from(("on", "hidden", "off")),
    st.sampled_from(("file", "title", "id")),
    st.booleans(),
)


@pytest.mark.claim("S365")
@given(ABOUT)
def test_it_fits_two_screens(about: About) -> None:
    lines = text(about).decode("ascii").split("\n")
    assert lines.pop() == ""
    assert len(lines) <= 48
    assert max(map(len, lines)) <= 80
    assert "man up42fs" in lines[-1]
    assert all(line.isprintable() or not line for line in lines)


def test_it_follows_the_options() -> None:
    here = Path("/home/me/up42")
    mine = Settings(username="me@example.com", password="secret", account="lab")
    shown = (readme_of(mine, here) or b"").decode()
    assert "me@example.com (lab)" in shown
    assert "secret" not in shown
    assert "Titles and tags can be edited" not in shown
    told = (readme_of(Settings(username="m@e", rw=True, sidecars=True), here) or b"").decode()
    assert "Titles and tags can be edited" in told
    assert "stays on this machine" in told
    assert readme_of(Settings(username="m@e", noreadme=True), here) is None


@pytest.mark.claim("S365")
def test_it_names_no_account_where_others_may_read_it() -> None:
    for shares in (False, True):
        shared = Settings(username="me@example.com", allow_other=True, share_links=shares)
        shown = readme_of(shared, Path("/mnt/up42")) or b""
        assert (b"me@example.com" in shown) == shares
