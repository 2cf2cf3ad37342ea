"""What other users of the machine may read of a mount with `allow_other`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.errors import NotShared
from up42fs.fs.control import VirtualFiles
from up42fs.fs.privacy import (
    Privacy,
    document_for_others,
    require_shared,
    status_for_others,
)
from up42fs.fs.xattrs import DOWNLOAD_URL, EXPLAIN, JSON, STAC_JSON

SECRET = "0e3f9f50-5ecr-et00"
ACCOUNT_MEMBERS = (
    *("up42-system:account_id", "up42-system:workspace_id", "up42-user:user_id"),
    "uup42-system:account_id",
)
OTHERS = ("up42-system:asset_id", "account_id_of_a_title", "up42-user:title", "id")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(ACCOUNT_MEMBERS + OTHERS), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(st.integers(0, 1 << 32), st.integers(0, 1 << 32), st.booleans())
def test_the_mounting_user_and_root_are_trusted(owner: int, uid: int, shares: bool) -> None:
    assert Privacy(owner, shares).trusts(uid) == (shares or uid == owner or uid == 0)


@pytest.mark.claim("S150")
@given(values, st.sampled_from([None, 2]))
def test_documents_lose_the_account_and_nothing_else(value: Any, indent: int | None) -> None:
    separators = (",", ":") if indent is None else None
    text = json.dumps(
        {"up42-user:title": 1, "inner": value}, indent=indent, separators=separators
    ).encode()
    shown = document_for_others(text)
    assert len(shown) == len(text)
    assert json.loads(shown) == {"up42-user:title": 1, "inner": stripped(value)}


def stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: stripped(v) for k, v in value.items() if k not in ACCOUNT_MEMBERS}
    return [stripped(inner) for inner in value] if isinstance(value, list) else value


def test_what_is_no_json_stays() -> None:
    assert document_for_others(b"up42- no json") == b"up42- no json"


STATUS = {
    "version": "1", "pid": 4, "mountpoint": "/mnt", "api": "https://api", "account": SECRET,
    "workspace": SECRET, "log_file": SECRET, "assets": 3, "counters": {"api.requests": 1},
    "catalogue": {"assets": {"complete": True, "rows_so_far": None, "seconds_since_refresh": 1.0,
                             "error": f"UP42 refused {SECRET}"}},
    "disk_cache": {"used_bytes": 1, "limit_bytes": 2, "directory": SECRET, "off_because": SECRET},
    "sidecars": {"directory": SECRET}, "edits": {"failed": {SECRET: SECRET}},
    "top_files": [{"name": SECRET, "programs": {SECRET: 1}}], "fetched_files": [{"name": SECRET}],
    "recent_errors": [{"message": SECRET}], "something new": SECRET,
}  # fmt: skip


@pytest.mark.claim("S150")
def test_the_status_for_others_has_no_account_no_paths_no_readers() -> None:
    shown = status_for_others(STATUS)
    assert SECRET not in json.dumps(shown)
    assert shown["pid"] == 4
    assert shown["counters"] == STATUS["counters"]
    assert shown["catalogue"]["assets"]["error"]
    assert shown["disk_cache"]["off_because"]


def test_virtual_files_for_others() -> None:
    virtual = VirtualFiles(lambda: STATUS, lambda: "m 1\n", lambda: SECRET.encode())
    for name in virtual.names():
        if name == "changes":
            with pytest.raises(NotShared):
                virtual.render(name, is_trusted=False)
        else:
            assert SECRET.encode() not in virtual.render(name, is_trusted=False)
            assert virtual.render(name, is_trusted=name != "status.json")
    assert SECRET.encode() in virtual.render("status.json")


@pytest.mark.parametrize(
    "name",
    [
        *(JSON, DOWNLOAD_URL, EXPLAIN, "user.up42.account_id", "user.up42.workspace_id"),
        *("user.up42.whole.account_id", "user.up42.whole.workspace_id"),
    ],
)
def test_private_attributes(name: str) -> None:
    with pytest.raises(NotShared, match="share_links"):
        require_shared(name)


@pytest.mark.parametrize("name", [STAC_JSON, "user.up42.id", "user.up42.cached"])
def test_open_attributes(name: str) -> None:
    require_shared(name)
