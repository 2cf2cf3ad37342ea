"""The bench runs, on tiny scenes: every kind of subject, its store, its line, its report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scenes
import sites

BENCH = Path(sites.__file__).with_name("cli.py")
SUBJECTS = "disk,up42fs,vsicurl,rclone,curl"
pytestmark = [
    pytest.mark.mount,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("nginx", path="/usr/sbin:/usr/bin") is None, reason="no nginx for the bench"
    ),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def report(work: Path) -> dict[str, Any]:
    command = [
        *(sys.executable, str(BENCH), "--size", "tiny", "--work", str(work), "--repeat", "1"),
        *("--only", "^(window-u16|zip-list|whole-tls) ", "--subjects", SUBJECTS),
        *("--out", str(work / "out")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "differs" not in done.stdout
    found: dict[str, Any] = json.loads((work / "out" / "results.json").read_text())
    return found


def runs(report: dict[str, Any], case: str, leg: str) -> dict[str, dict[str, Any]]:
    return {r["subject"]: r for r in report["runs"] if (r["case"], r["leg"]) == (case, leg)}


@pytest.mark.timeout(150)
def test_every_subject_reads_the_same_pixels(report: dict[str, Any]) -> None:
    for leg in ("line", "pipes"):
        window = runs(report, "window-u16", leg)
        assert set(window) == {"disk", "up42fs", "vsicurl", "rclone"}
        assert len({run["digest"] for run in window.values()}) == 1
        assert window["disk"]["requests"] == 0
        for name in ("up42fs", "vsicurl", "rclone"):
            assert window[name]["requests"] >= 1
            assert window[name]["bytes"] > 500_000
        assert window["up42fs"]["links"] == 1
        assert window["vsicurl"]["seconds"] > 0.1, "two requests at 50 ms each"


def test_tls_is_counted_and_its_cost_seen(report: dict[str, Any]) -> None:
    whole = runs(report, "whole-tls", "tls")
    assert set(whole) == {"disk", "up42fs", "vsicurl", "rclone", "curl"}
    for name in ("up42fs", "vsicurl", "rclone", "curl"):
        assert whole[name]["bytes"] == scenes.TINY.big_bytes
    for name in ("up42fs", "rclone"):
        assert whole[name]["peak_bytes"] > 20_000_000
        assert whole[name]["mount_cpu_s"] > 0


def test_bars_are_judged_and_the_report_is_written(report: dict[str, Any], work: Path) -> None:
    assert {bar["case"] for bar in report["bars"]} >= {"window-u16", "whole-tls"}
    assert "## Bars" in (work / "out" / "results.md").read_text()
    assert "<svg" in (work / "out" / "results.svg").read_text()


def test_a_line_that_ended_is_no_slow_subject(store: sites.Store) -> None:
    with sites.site(sites.LEGS["line"], store) as site:
        site.ensure_alive()
        *_, line = site.processes
        line.kill()
        line.wait(10)
        with pytest.raises(sites.SiteGoneError, match=r"line\.py"):
            site.ensure_alive()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sites.Store]:
    folder = tmp_path / "files"
    (folder / "an order").mkdir(parents=True)
    (folder / "an order" / "scene.tif").write_bytes(b"0123456789")
    with sites.store(folder, tmp_path, "secret") as served:
        yield served


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_nginx_judges_links_as_the_contract_has_it(
    store: sites.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contract §6: 400 ExpiredToken, 403 for a wrong signature, no second authentication."""
    with sites.site(sites.LEGS["loop"], store) as site:
        link = site.link("an order/scene.tif")
        assert fetch(link, Range="bytes=2-4") == (206, b"234")
        forged = link.replace("Signature=", "Signature=x")
        assert fetch(forged)[0] == 403
        assert fetch(link.replace("/scene.tif", "/other.tif"))[0] == 403
        assert fetch(link, **{"Content-Type": "text/plain"})[0] == 403
        assert fetch(link, Authorization="Bearer t")[0] == 400
        monkeypatch.setattr(sites, "LINK_LIFE_S", -1)
        status, body = fetch(site.link("an order/scene.tif"))
        assert (status, b"ExpiredToken" in body) == (400, True)
