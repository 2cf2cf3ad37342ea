"""The command: its ready line, its ends, and the SDK and pystac-client working against it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from up42fs.emulator import Remote

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "up42fs.emulator"]


@contextmanager
def running(*flags: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = subprocess.Popen([*COMMAND, *flags], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_ready_line_and_a_clean_end(number: signal.Signals) -> None:
    with running("--synthetic", "5,1,1", "--username", "me@x", "--password", "pw") as (p, ready):
        assert ready["env"] == {
            "UP42_API_URL": ready["api_url"], "UP42_AUTH_URL": ready["auth_url"],
            "UP42_USERNAME": "me@x", "UP42_PASSWORD": "pw",
        }  # fmt: skip
        assert len({ready["api_url"], ready["auth_url"], ready["store_url"]}) == 3
        assert len(Remote(ready["control_url"]).storage()["assets"]) == 5
        p.send_signal(number)
        assert p.wait(5) == 0
        assert p.stdout is not None
        assert p.stdout.read() == ""


def test_ports_and_switches_are_taken_from_flags() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ("--synthetic", "1", "--port", str(port), "--link-life-s", "2.5", "--gzip-objects")
    with running(*flags) as (_, ready):
        assert ready["api_url"] == f"http://127.0.0.1:{port}"
        faults = Remote(ready["control_url"]).faults()
        assert (faults["link_life_s"], faults["gzip_objects"]) == (2.5, True)
        taken = subprocess.run(
            [*COMMAND, "--synthetic", "1", "--port", str(port)], capture_output=True, text=True,
            timeout=20, check=False,
        )  # fmt: skip
        assert (taken.returncode, taken.stdout) == (1, "")
        assert "Address already in use" in taken.stderr
        assert "Traceback" not in taken.stderr


def test_a_missing_data_directory_is_said_plainly(tmp_path: Path) -> None:
    missing = str(tmp_path / "nothing")
    done = subprocess.run(
        [*COMMAND, "--data", missing], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert missing in done.stderr
    assert "Traceback" not in done.stderr


def test_it_dies_with_its_parent() -> None:
    script = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen({[*COMMAND, '--synthetic', '1', '--die-with-parent']!r},"
        " stdout=subprocess.PIPE, text=True)\n"
        "sys.stdout.write(str(p.pid) + ' ' + p.stdout.readline()); sys.stdout.flush()\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    _, _, ready = parent.stdout.readline().partition(" ")
    control_url = json.loads(ready)["control_url"]
    assert Remote(control_url).log() == []
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(5)
    parent.stdout.close()
    _wait_until_refused(control_url)


def _wait_until_refused(url: str) -> None:
    import time

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/log", timeout=1).close()
        except OSError:
            return
        time.sleep(0.02)
    pytest.fail("the emulator outlived its parent")


def _script(name: str, ready: dict[str, Any], *more: str) -> Any:
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment["UP42_DISABLE_VERSION_CHECK"] = "true"  # it would look at pypi.org
    done = subprocess.run(
        [sys.executable, str(HERE / name), json.dumps(ready), *more],
        capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.claim("S300")
def test_up42s_own_sdk_makes_every_call_about_storage(sample_dir: Path, tmp_path: Path) -> None:
    # It would be a pity to learn that this test is skipped only from a fault in the emulator.
    pytest.importorskip("up42", reason="UP42's SDK is missing: pip install 'up42-py==4.3.0'")
    # The SDK asks for no page size, so small pages are forced upon it.
    with running("--sample-dir", str(sample_dir), "--max-page-size", "3") as (_, ready):
        remote = Remote(ready["control_url"])
        summary = remote.storage()
        seen = _script("emulator_sdk_script.py", ready, str(tmp_path))
        assert sorted(seen["orders"]) == sorted(row["id"] for row in summary["orders"])
        assert sorted(seen["collections"]) == sorted(summary["collections"])
        assert sorted(seen["items"]) == sorted(row["id"] for row in summary["items"])
        assert set(seen["fulfilled"]) == {"FULFILLED"}
        assert (seen["one"], seen["collection_items"]) == (seen["orders"][0], 1)
        assert (seen["item_title"], seen["item_tags"]) == ("Retitled by the SDK", ["by sdk", "a/b"])
        assert seen["downloaded"] == "tileinfo.json"
        assert seen["downloaded_bytes"] == (sample_dir / "tileinfo.json").read_text()
        assert seen["order_tags"] == ["tagged"]
        after = {row["id"]: row for row in remote.storage()["assets"]}[seen["item_asset"]]
        assert (after["title"], after["tags"]) == ("Retitled by the SDK", ["by sdk", "a/b"])
        assert remote.count("orders.list") >= 5  # 8 orders in pages of 3, then the fulfilled ones
        assert {record["status"] for record in remote.log()} == {200, 204}

        assert sorted(seen["by_id"]) == sorted(seen["orders"][:2])
        assert (seen["by_name"], seen["by_workspace"]) == (True, len(seen["orders"]))
        assert (seen["by_tag"], len(seen["tasking"])) == ([seen["one"]], 3)
        assert seen["waiting"] == ["FEASIBILITY_WAITING_UPLOAD"]
        assert (seen["covered"], seen["covered_type"]) == ([50.0, 50.0], "FeatureCollection")
        assert "cannot be canceled" in seen["refusal"]
        assert seen["by_item_id"] == [seen["item_id"]]
        assert seen["half_deletion"] is True
        assert set(summary["collections"]) - set(seen["left"]) == {seen["deleted"]}
        assert seen["job_collection"] in seen["job_collections"]
        assert seen["job_items"] == [seen["job"]] * len(seen["job_items"]) != []
        assert seen["job_url"].startswith(ready["api_url"] + "/v2/assets/stac/collections/")
        assert seen["quicklook_href"].endswith("/download-url")
        assert bytes(seen["quicklook"]) == b"\x89PNG"


def test_pystac_client_works_against_it(sample_dir: Path) -> None:
    with running("--sample-dir", str(sample_dir)) as (_, ready):
        seen = _script("emulator_pystac_script.py", ready)
        summary = Remote(ready["control_url"]).storage()
        assert sorted(seen["items"]) == sorted(row["id"] for row in summary["items"])
        assert seen["by_id"] == [seen["items"][0]]
        assert seen["by_text_filter"] == seen["by_json_filter"] != []
        assert 0 < len(seen["in_box"]) < len(seen["items"])
        assert seen["child"] in summary["collections"]


def test_links_to_another_store_need_its_secret(tmp_path: Path) -> None:
    flags = ("--external-store", "http://127.0.0.1:1", "--data", str(tmp_path))
    for left in (flags, flags[:2]):
        done = subprocess.run([*COMMAND, *left], capture_output=True, text=True, timeout=20)
        assert done.returncode == 1
        assert "UP42_EMULATOR_STORE_SECRET" in done.stderr
        assert done.stdout == ""


def test_a_sample_without_a_home_is_deleted_at_the_end(tmp_path: Path) -> None:
    script = (
        "from up42fs.emulator.sample_files import default_sample_dir as make\n"
        "place = make()\nplace.mkdir()\n(place / 'image').touch()\nprint(place)"
    )
    env = {"HOME": "/proc/none", "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | env, capture_output=True, text=True
    )
    assert done.stdout.startswith(f"{tmp_path}/up42fs-demo-"), done.stderr
    assert os.listdir(tmp_path) == []
