"""`up42fs doctor --account`: what a service supports, told without a word of the account's own."""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

import pytest
from harness import UP42FS, Emulator, check, emulator, run

#: Requests that read; `POST` only where it searches or signs.
READS = {"GET", "HEAD"}
THREE_SCREENS = 3 * 24


def asked(running: Emulator) -> dict[str, str]:
    found = json.loads(check(*UP42FS, "doctor", "--account", "--json", env=running.env))
    assert all(row["level"] == "ok" for row in found), found
    return {row["check"]: row["words"] for row in found}


@pytest.mark.claim("S324")
def test_it_reads_only_and_tells_no_secret_on_three_screens(sample: Emulator) -> None:
    before, position = sample.remote.storage(), sample.remote.position()
    shown = check(*UP42FS, "doctor", "--account", env=sample.env)
    assert sample.remote.storage() == before
    for request in sample.remote.log(position):
        is_read = request["method"] in READS or request["path"].endswith(
            ("/stac/search", "/download-url", "/token")
        )
        assert is_read, request
    rows = [row for line in shown.splitlines() for row in textwrap.wrap(line, 80)]
    assert len(rows) <= THREE_SCREENS, shown
    private = {sample.env["UP42_USERNAME"], sample.env["UP42_PASSWORD"] + " "}
    for asset in before["assets"]:
        private |= {asset["id"], asset["name"] or "-" * 99, asset.get("title") or "-" * 99}
    for order in before["orders"]:
        private |= {order["id"], order.get("display_name") or "-" * 99}
    assert not [word for word in private if word in shown]
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}|Signature|eyJ|GoogleAccessId=|\?", shown)


#: What the emulator is told to be, and the words that a report of it must have, by check.
VARIANTS: tuple[tuple[dict[str, Any], dict[str, str]], ...] = (
    (
        {},
        {
            "assets": r"200; asked for 1000 rows, got 31 of 31, page size 500",
            "filters": r"= 200, 1 found; or 200, 1 found; in 200, 1 found; isNull 200",
            "stac": r"advanced comparison operators are not announced",
            "links": r"signed V2, life (299|300) s, file name plain, host 127\.0\.0\.1",
            "store": r"HEAD 200; a range 206, headers .*etag",
            "metadata": r"404, without a size",
            "items": r"0 hrefs end in /download-url",
            "errors": r"unknown ID 404 with .*title.*; bad parameter 400 with .*; bad token 401",
        },
    ),
    (
        {"in_refused": 501, "link_style": "v4", "link_life_s": 30, "quoted_disposition": "yes"},
        {"filters": r"in 501, 0 found", "links": r"signed V4, life (29|30) s, file name quoted"},
    ),
    (
        {"assets_gone": 410, "href_suffix": "yes", "head_refused": True},
        {"assets": r"410 .*STAC alone lists the storage", "store": r"HEAD 40\d; a range 206"},
    ),
    (
        {"asset_get": "redirect", "stac_asset_metadata": True, "strict_accept": True},
        {
            "download": r"302 to 127\.0\.0\.1; answers a range: no",
            "metadata": r"200, with a size",
            "accept": r"\*/\* 200; application/json 406; application/geo\+json 200",
        },
    ),
    ({"error_shape": "basic"}, {"errors": r"unknown ID 404 with code"}),
)


@pytest.fixture(scope="module")
def changed():
    with emulator() as running:
        yield running


@pytest.mark.claim("S324")
@pytest.mark.parametrize(("faults", "words"), VARIANTS, ids=[str(sorted(v[0])) for v in VARIANTS])
def test_it_tells_the_variants_apart(
    changed: Emulator, faults: dict[str, Any], words: dict[str, str]
) -> None:
    before = changed.remote.faults()
    changed.remote.faults(**faults)
    try:
        told = asked(changed)
    finally:
        changed.remote.faults(**{name: before[name] for name in faults})
    for name, pattern in words.items():
        assert re.search(pattern, told[name]), (name, told[name])


def test_a_service_that_is_down_is_told_line_by_line(changed: Emulator) -> None:
    changed.remote.faults(fail_plane="api", fail_status=503, fail_body="html")
    try:
        told = asked(changed)
    finally:
        changed.remote.faults(fail_plane=None, fail_status=None, fail_body=None)
    assert told["assets"].startswith("503, no JSON object")
    assert told["links"].startswith("not asked")


def test_wrong_use_and_a_wrong_password_say_so(changed: Emulator) -> None:
    done = run(*UP42FS, "doctor", "--account", "--local", env=changed.env)
    assert done.returncode == 2
    assert "give one of them" in done.stderr
    env = changed.env | {"UP42_PASSWORD": "not this one"}
    done = run(*UP42FS, "doctor", "--account", env=env)
    assert done.returncode == 1
    assert "fail" in done.stdout
    assert "not this one" not in done.stdout + done.stderr
