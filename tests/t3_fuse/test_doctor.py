"""`up42fs doctor`: every failure it knows, provoked and answered with its cure."""

from __future__ import annotations

import ast
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from harness import UP42FS, Emulator, emulator, run
from hypothesis import given
from hypothesis import strategies as st
from rich import markup

import up42fs
from up42fs.cli import status_view
from up42fs.config.settings import Settings
from up42fs.doctor import bundle, desktop, foreign, machine, mounted, network
from up42fs.doctor.finding import Finding, Machine, Severity
from up42fs.engine import prometheus as exposition
from up42fs.fuse.mount_table import Mount

MODULES = (machine, desktop, mounted, network)
SECRET = "hunter2-hunter2"
#: (module, line) of each `fail(…)` and `warn(…)` that a test saw happen.
seen: set[tuple[str, int]] = set()


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in MODULES:
        for name in ("fail", "warn"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, recorder(module.__name__, getattr(module, name)))


def recorder(module: str, make: Callable[..., Finding]) -> Callable[..., Finding]:
    def make_and_record(*words: str) -> Finding:
        seen.add((module, sys._getframe(1).f_lineno))
        return make(*words)

    return make_and_record


def bad(findings: list[Finding]) -> Finding:
    """The one finding that is not ok; its cure is one line."""
    found = [finding for finding in findings if finding.level is not Severity.OK]
    assert len(found) == 1, findings
    assert found[0].cure
    assert "\n" not in found[0].cure + found[0].words
    return found[0]


# the machine ------------------------------------------------------------------------------------


def with_sidecars(fake: Fake, **changes: Any) -> None:
    fake.settings = replace(fake.settings, sidecars=True, **changes)


@dataclass
class Fake:
    """A machine on which all is well, to be spoilt."""

    root: Path
    settings: Settings
    files: dict[str, str] = field(default_factory=lambda: {"/etc/mtab": ""})
    outputs: dict[str, str] = field(default_factory=dict)
    programs: list[str] = field(default_factory=list)
    place: Path | None = None
    uid: int = 1000
    mode: int = 0o4755
    free: int = 50
    has_helper: bool = True

    def machine(self) -> Machine:
        helper = self.root / "fusermount3"
        helper.touch()
        helper.chmod(self.mode)
        for path, text in self.files.items():
            target = self.root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for number, name in enumerate(self.programs, 1):
            (self.root / f"proc/{number}").mkdir(parents=True)
            (self.root / f"proc/{number}/comm").write_text(name + "\n")
        version = {f"{helper} --version": "fusermount3 version: 3.14.0\n"}
        outputs = version | {
            k.replace("fusermount3", str(helper)): v for k, v in self.outputs.items()
        }
        disk: Any = SimpleNamespace(f_bavail=self.free, f_blocks=100, f_frsize=2**30)
        return Machine(
            root=self.root,
            environ={"HOME": "/home/me"},
            uid=self.uid,
            which=lambda name: str(helper) if self.has_helper else None,
            run=lambda command: outputs.get(" ".join(command)),
            statvfs=lambda path: disk,
        )

    def findings(self) -> list[Finding]:
        fake = self.machine()
        found = list(machine.examine(fake, self.settings, self.place))
        return found + list(desktop.examine(fake, self.place))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    root = tmp_path / "root"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (root / "dev").mkdir(parents=True)
    (root / "dev/fuse").touch()
    return Fake(root, Settings(cache_dir=tmp_path / "cache"))


@pytest.mark.claim("S403")
def test_a_missing_engine_is_named(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install up42fs` alone cannot mount, and everything else on the machine is well."""
    monkeypatch.setattr(machine, "find_spec", lambda _: None)
    finding = bad(fake.findings())
    assert finding.level is Severity.FAIL
    assert "pyfuse3 is missing" in finding.words
    assert "up42fs[mount]" in finding.cure


PROFILE = """\
profile fusermount3 /usr/bin/fusermount3 {
  mount fstype=@{fuse_types} options=(nosuid,nodev) -> @{HOME}/**/,
  mount fstype=@{fuse_types} options=(nosuid,nodev) options in (ro,rw) -> /mnt/{,**/},
  # mount fstype=fuse -> /srv/**/,
  mount fstype=@{fuse_types} -> @{run}/user/@{uid}/**/,
}
"""
APPARMOR = {
    "/etc/apparmor.d/fusermount3": PROFILE,
    "/sys/module/apparmor/parameters/enabled": "Y\n",
}
SCHEMA = "gsettings get org.freedesktop.Tracker3.Miner.Files"
HOME_INDEXED = {f"{SCHEMA} index-recursive-directories": "['&DESKTOP', '$HOME']"}
NAUTILUS = "gsettings get org.gnome.nautilus.preferences show-image-thumbnails"


def each(*changes: Callable[[Fake], Any]) -> Callable[[Fake], None]:
    def change(fake: Fake) -> None:
        for one in changes:
            one(fake)

    return change


MACHINES: dict[str, tuple[Callable[[Fake], Any], Severity, str, str]] = {
    "no /dev/fuse": (
        lambda f: (f.root / "dev/fuse").unlink(), Severity.FAIL, "is missing", "modprobe fuse"),
    "a closed /dev/fuse": (
        each(lambda f: (f.root / "dev/fuse").unlink(), lambda f: (f.root / "dev/fuse").mkdir()),
        Severity.FAIL, "cannot be opened", "--device /dev/fuse"),
    "no fusermount3": (
        lambda f: setattr(f, "has_helper", False), Severity.FAIL, "missing", "install fuse3"),
    "no mtab": (
        lambda f: f.files.clear(), Severity.FAIL, "unmounts nothing", "ln -s /proc/self/mounts"),
    "fusermount3 without rights": (
        lambda f: setattr(f, "mode", 0o755), Severity.FAIL, "not setuid", "chmod u+s"),
    "an old libfuse": (
        lambda f: f.outputs.update({"fusermount3 --version": "version: 3.2.1"}),
        Severity.WARN, "3.2.1 is older than 3.10", "install fuse3"),
    "a silent libfuse": (
        lambda f: f.outputs.update({"fusermount3 --version": "?"}),
        Severity.WARN, "does not tell", "install fuse3"),
    "allow_other not allowed": (
        each(
            lambda f: setattr(f, "settings", replace(f.settings, allow_other=True)),
            lambda f: f.files.update({"/etc/fuse.conf": "#user_allow_other\n"}),
        ),
        Severity.FAIL, "does not permit", "tee -a /etc/fuse.conf"),
    "apparmor forbids the place": (
        each(lambda f: f.files.update(APPARMOR), lambda f: setattr(f, "place", Path("/srv/up42"))),
        Severity.FAIL, "/srv/up42", "-> /srv/up42/,"),
    "a limit of requests": (
        lambda f: f.files.update({
            "/proc/sys/fs/fuse/default_request_timeout": "60\n",
            "/proc/sys/fs/fuse/max_request_timeout": "0\n",
        }),
        Severity.WARN, "longer than 60 s", "sudo sysctl fs.fuse.default_request_timeout=0"),
    "no cache": (
        lambda f: setattr(f, "settings", replace(f.settings, cache_size=0)),
        Severity.WARN, "off", "cache_size"),
    "a cache that cannot be": (
        lambda f: f.settings.cache_dir.write_text("a file"),  # type: ignore[union-attr]
        Severity.FAIL, "cannot be written", "--cache-dir"),
    "a full disk": (lambda f: setattr(f, "free", 9), Severity.WARN, "9% free", "cache clear"),
    "sidecars that cannot be": (
        each(with_sidecars, lambda f: (f.root.parent / "data").write_text("a file")),
        Severity.FAIL, "cannot be kept", "XDG_DATA_HOME"),
    "no room for sidecars": (
        lambda f: with_sidecars(f, sidecars_size=1 << 20),
        Severity.WARN, "room for 1 MiB", "--sidecars-size"),
    "updatedb": (
        lambda f: f.files.update({"/etc/updatedb.conf": 'PRUNEFS = "nfs"\nPRUNEPATHS="/tmp"\n'}),
        Severity.WARN, "every night", "PRUNEFS"),
    "tracker": (
        each(
            lambda f: f.programs.append("tracker-miner-f"),
            lambda f: f.outputs.update(HOME_INDEXED),
        ),
        Severity.WARN, "/home/me/up42", "ignored-directories"),
    "baloo": (
        lambda f: f.programs.append("baloo_file"),
        Severity.WARN, "/home/me/up42", "balooctl6 config add excludeFolders"),
    "thumbnails": (
        lambda f: f.outputs.update({NAUTILUS: "'always'\n"}),
        Severity.WARN, "every image", "local-only"),
}  # fmt: skip


def test_a_good_machine_is_well(fake: Fake) -> None:
    assert [f for f in fake.findings() if f.level is not Severity.OK] == []


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_with(fake: Fake, name: str) -> None:
    spoil, level, words, cure = MACHINES[name]
    spoil(fake)
    finding = bad(fake.findings())
    assert finding.level is level
    assert words in finding.words
    assert cure in finding.cure


WELL: dict[str, Callable[[Fake], Any]] = {
    "a high limit of requests": lambda f: f.files.update(
        {"/proc/sys/fs/fuse/max_request_timeout": "600\n"}
    ),
    "no limit of requests": lambda f: f.files.update(
        {
            "/proc/sys/fs/fuse/default_request_timeout": "0\n",
            "/proc/sys/fs/fuse/max_request_timeout": "0\n",
        }
    ),
    "room for sidecars": with_sidecars,
    "root needs no setuid": each(
        lambda f: setattr(f, "mode", 0o755), lambda f: setattr(f, "uid", 0)
    ),
    "allow_other allowed": each(
        lambda f: setattr(f, "settings", replace(f.settings, allow_other=True)),
        lambda f: f.files.update({"/etc/fuse.conf": "user_allow_other\n"}),
    ),
    "apparmor in general": lambda f: f.files.update(APPARMOR),
    "apparmor off": each(
        lambda f: f.files.update(APPARMOR | {"/sys/module/apparmor/parameters/enabled": "N"}),
        lambda f: setattr(f, "place", Path("/srv/up42")),
    ),
    "apparmor told": each(
        lambda f: f.files.update(
            APPARMOR | {"/etc/apparmor.d/local/fusermount3": "mount fstype=fuse.* -> /srv/up42/,"}
        ),
        lambda f: setattr(f, "place", Path("/srv/up42")),
    ),
    "updatedb told": lambda f: f.files.update(
        {"/etc/updatedb.conf": 'PRUNEFS="nfs fuse.up42fs"\n'}
    ),
    "updatedb elsewhere": lambda f: f.files.update(
        {"/etc/updatedb.conf": 'PRUNEPATHS="/tmp /home"\n'}
    ),
    "tracker told": each(
        lambda f: f.programs.append("localsearch-3"),
        lambda f: f.outputs.update(
            HOME_INDEXED | {f"{SCHEMA} ignored-directories": "['po', 'up42']"}
        ),
    ),
    "tracker elsewhere": each(
        lambda f: f.programs.append("localsearch-3"),
        lambda f: f.outputs.update({f"{SCHEMA} index-recursive-directories": "['&DOCUMENTS']"}),
    ),
    "baloo told": each(
        lambda f: f.programs.append("baloo_file"),
        lambda f: f.files.update(
            {"/home/me/.config/baloofilerc": "[General]\nexclude folders[$e]=/x/,$HOME/up42/\n"}
        ),
    ),
    "baloo elsewhere": each(
        lambda f: f.programs.append("baloo_file"),
        lambda f: f.files.update(
            {"/home/me/.config/baloofilerc": "[General]\nfolders[$e]=$HOME/Docs/\n"}
        ),
    ),
    "thumbnails of local files": lambda f: f.outputs.update({NAUTILUS: "'local-only'\n"}),
}


@pytest.mark.parametrize("name", WELL)
def test_a_machine_is_well_with(fake: Fake, name: str) -> None:
    WELL[name](fake)
    assert [f for f in fake.findings() if f.level is not Severity.OK] == []


@pytest.mark.parametrize(
    ("place", "is_allowed"),
    [
        ("/home/me/up42", True),
        ("/home/me/a/b", True),
        ("/mnt", True),
        ("/mnt/up42", True),
        ("/run/user/1000/up42", True),
        ("/srv/up42", False),
        ("/home", False),
        ("/mnt2", False),
    ],
)
def test_where_apparmor_lets_mount(fake: Fake, place: str, is_allowed: bool) -> None:
    fake.files.update(APPARMOR)
    fake.place = Path(place)
    assert (machine.apparmor(fake.machine(), fake.place).level is Severity.OK) == is_allowed


# mounts -----------------------------------------------------------------------------------------

MOUNT = Mount("/mnt", "0:77", "fuse.up42fs", "up42:eu")
GOOD: Mapping[str, Any] = {
    "version": up42fs.__version__,
    "pid": 42,
    "kernel": {"max_background": 64},
    "catalogue": {"assets": {"error": None, "seconds_since_refresh": 5.0}},
    "disk_cache": {"off_because": None, "directory": "/c"},
    "recent_errors": [],
    "log_file": "/l",
}
MOUNTS: dict[str, tuple[Mapping[str, Any] | None, str, str]] = {
    "no answer": (None, "does not answer", "unmount --lazy /mnt"),
    "another version": ({"version": "0.0.9"}, "0.0.9", "up42fs mount /mnt"),
    "few requests": ({"kernel": {"max_background": 12}}, "12", "max_background"),
    "an old listing": (
        {"catalogue": {"assets": {"error": None, "seconds_since_refresh": 7200.0}}},
        "7200 s ago", "cat /mnt/.up42fs/refresh"),
    "a failing refresh": (
        {"catalogue": {"assets": {"error": "UP42 failed", "seconds_since_refresh": 5}}},
        "UP42 failed", "tried again"),
    "a cache that is off": (
        {"disk_cache": {"off_because": "disk full", "directory": "/c"}}, "disk full", "/c"),
    "errors": (
        {"recent_errors": [{"time": "now", "level": "ERROR", "message": "a.zip failed"}]},
        "a.zip failed", "/l"),
}  # fmt: skip


def test_a_good_mount_is_well(fake: Fake) -> None:
    fake.files["/sys/class/bdi/0:77/read_ahead_kb"] = "1024\n"
    found = list(mounted.examine(fake.machine(), MOUNT, GOOD))
    assert {finding.level for finding in found} == {Severity.OK}


@pytest.mark.parametrize("name", MOUNTS)
def test_a_mount_with(fake: Fake, name: str) -> None:
    changes, words, cure = MOUNTS[name]
    status = None if changes is None else {**GOOD, **changes}
    finding = bad(list(mounted.examine(fake.machine(), MOUNT, status)))
    assert words in finding.words
    assert cure in finding.cure


def test_a_mount_with_little_read_ahead(fake: Fake) -> None:
    fake.files["/sys/class/bdi/0:77/read_ahead_kb"] = "128\n"
    finding = bad(list(mounted.examine(fake.machine(), MOUNT, GOOD)))
    assert "echo 1024 | sudo tee /sys/class/bdi/0:77/read_ahead_kb" in finding.cure


def test_read_ahead_that_is_less_for_an_image_alone(fake: Fake) -> None:
    fake.files["/sys/class/bdi/0:77/read_ahead_kb"] = "64\n"
    status = {**GOOD, "kernel": {"max_background": 64, "read_ahead_kib": 1024}}
    found = list(mounted.examine(fake.machine(), MOUNT, status))
    assert {finding.level for finding in found} == {Severity.OK}


def test_places_where_nothing_is_mounted_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    assert "mkdir -p" in bad(list(mounted.unmounted(tmp_path / "none"))).cure
    assert "not a directory" in bad(list(mounted.unmounted(tmp_path / "file"))).words
    assert "hides" in bad(list(mounted.unmounted(tmp_path))).words
    assert next(mounted.unmounted(tmp_path / "empty")).level is Severity.OK
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "not yours" in bad(list(mounted.unmounted(tmp_path / "empty"))).words


FOREIGN = Mount("/mnt; reboot", "0:77", "fuse.up42fs", "up42:eu", owner=1 << 30)


def test_a_mount_of_another_user(fake: Fake) -> None:
    finding = bad(list(mounted.examine(fake.machine(), FOREIGN, None)))
    assert "was mounted by user 1073741824" in finding.words
    assert "is gone" not in finding.words
    assert "'/mnt; reboot'" in finding.cure


# the network ------------------------------------------------------------------------------------


def settings_for(running: Emulator, **changes: Any) -> Settings:
    env = running.env
    base = Settings(
        username=env["UP42_USERNAME"],
        password=env["UP42_PASSWORD"],
        api_url=env["UP42_API_URL"],
        auth_url=env["UP42_AUTH_URL"],
    )
    return replace(base, **changes)


def examined(settings: Settings) -> list[Finding]:
    async def collect() -> list[Finding]:
        return [finding async for finding in network.examine(settings)]

    return trio.run(collect)


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """A storage with one file of 20 MB."""
    with emulator("--synthetic", "1") as running:
        yield running


@pytest.fixture
def faults(service: Emulator) -> Iterator[Callable[..., Any]]:
    before = service.remote.faults()
    yield service.remote.faults
    service.remote.faults(**before)


def test_a_good_network_is_well(service: Emulator) -> None:
    found = examined(settings_for(service))
    assert {finding.level for finding in found} == {Severity.OK}, found
    assert {"account", "links", "ranges", "speed", "clock"} <= {f.check for f in found}


SERVICES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no links": (
        {"fail_route": "assets.sign", "fail_status": 403}, "links", "signing", "may do this"),
    "no ranges": (
        {"fail_route": "store.get", "fail_status": 403}, "ranges", "", "account may download"),
    "the API out of order": (
        {"fail_route": "assets.list", "fail_status": 403}, "account", "", "workspace"),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_with(service: Emulator, faults: Callable[..., Any], name: str) -> None:
    switches, check, words, cure = SERVICES[name]
    faults(**switches)
    finding = bad(examined(settings_for(service)))
    assert (finding.check, finding.level) == (check, Severity.FAIL)
    assert words in finding.words
    assert cure in finding.cure


def test_a_slow_line(
    service: Emulator, faults: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "LEAST_SPEED", 10**12)
    finding = bad(examined(settings_for(service)))
    assert (finding.check, finding.level) == ("speed", Severity.WARN)
    assert "up42fs warm" in finding.cure


def test_a_line_that_breaks(
    service: Emulator, faults: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(fail_route="store.get", fail_skip=2, fail_status=403)
    finding = bad(examined(settings_for(service)))
    assert (finding.check, finding.level) == ("speed", Severity.FAIL)


def test_a_wrong_clock(service: Emulator, faults: Callable[..., Any]) -> None:
    faults(date_skew_s=-90.0)
    found = examined(settings_for(service))
    clocks = [f for f in found if f.level is not Severity.OK]
    assert {f.check for f in clocks} == {"clock"}
    assert all("90 s ahead of" in f.words or "91 s ahead of" in f.words for f in clocks)
    assert "set-ntp" in clocks[0].cure


def test_no_account_and_a_wrong_one(service: Emulator) -> None:
    finding = bad(examined(settings_for(service, username=None, password=None)))
    assert (finding.check, finding.cure) == ("account", "up42fs login")
    finding = bad(examined(settings_for(service, password=SECRET)))
    assert finding.check == "account"
    assert "refused the user name or password" in finding.words
    assert SECRET not in str(finding)


def test_addresses_that_cannot_be(service: Emulator) -> None:
    finding = bad(examined(settings_for(service, api_url="http://api.example.com")))
    assert (finding.check, finding.level) == ("address", Severity.FAIL)
    finding = bad(examined(settings_for(service, api_url="https://no-such-host.invalid")))
    assert finding.check == "name service"
    finding = bad(examined(settings_for(service, api_url="http://127.0.0.1:1")))
    assert finding.check == "connection"
    assert "HTTPS_PROXY" in finding.cure


def test_a_deaf_host(service: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "STEP_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        finding = bad(examined(settings_for(service, auth_url=url)))
    assert finding.check == "connection"
    assert "in time" in finding.words


@contextmanager
def web_server(status: int, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answers everything with `status`; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_CONNECT = do_GET

        def log_message(self, *args: object) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, *args: object) -> None:
            pass  # a client that refuses the certificate

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_certificate_nobody_knows(service: Emulator, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command")
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", str(tmp_path / "key"),
            "-out", str(tmp_path / "pem"), "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem", tmp_path / "key")
    with web_server(404, context) as port:
        finding = bad(examined(settings_for(service, api_url=f"https://127.0.0.1:{port}")))
    assert (finding.check, finding.level) == ("tls", Severity.FAIL)
    assert "SSL_CERT_FILE" in finding.cure


ELSEWHERE = {"api_url": "https://api.example.com", "auth_url": "https://api.example.com"}


def test_a_proxy_that_is_not_there(service: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:1")
    finding = bad(examined(settings_for(service, **ELSEWHERE)))
    assert (finding.check, finding.level) == ("proxy", Severity.FAIL)
    assert "HTTPS_PROXY" in finding.cure
    assert "secret" not in str(finding)


@pytest.mark.parametrize("status", [407, 502])
def test_a_proxy_that_refuses(
    service: Emulator, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with web_server(status) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        finding = bad(examined(settings_for(service, **ELSEWHERE)))
    assert (finding.check, finding.level) == ("proxy", Severity.FAIL)


def test_a_proxy_that_cannot_be_used(service: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks4://127.0.0.1:1080")
    finding = bad(examined(settings_for(service)))
    assert finding.check == "proxy"
    assert "SOCKS" in finding.words


@pytest.mark.claim("S158")
async def test_an_account_without_assets(service: Emulator) -> None:
    settings = settings_for(service, workspace="00000000-0000-4000-8000-000000000000")
    found = [finding async for finding in network.examine(settings)]
    (finding,) = [finding for finding in found if finding.level is Severity.WARN]
    assert "no asset in workspace 00000000" in finding.words
    assert "all workspaces together have" in finding.words
    assert finding.cure


# all of it --------------------------------------------------------------------------------------


def test_every_failure_was_provoked(request: pytest.FixtureRequest) -> None:
    here = [item for item in request.session.items if item.path == request.path]
    if len(here) < 50:
        pytest.skip("only with all tests of this module")
    known = set()
    for module in MODULES:
        tree = ast.parse(Path(module.__file__ or "").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("fail", "warn"):
                known.add((module.__name__, node.lineno))
    assert len(known) > 30
    assert known - seen == set()


# the command ------------------------------------------------------------------------------------


@pytest.mark.mount
def test_the_command_with_a_mount(service: Emulator, mount, tmp_path: Path) -> None:
    there = mount(service, "--log-level", "debug")
    with next((there.path / "assets").glob("*.zip")).open("rb") as file:
        file.read(1 << 20)
    archive = tmp_path / "support.tar.gz"
    env = {**service.env, "HOME": str(tmp_path)}
    done = run(*UP42FS, "doctor", "--bundle", archive, there.path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if not line.startswith("      cure: ")]
    assert {line.split()[0] for line in lines[:-1]} <= {"ok", "warn"}
    assert any(str(there.pid) in line for line in lines)
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        texts = {m.name: tar.extractfile(m).read().decode() for m in tar}  # type: ignore[union-attr]
    assert {name.rpartition("/")[2] for name in texts} == {
        *("findings.json", "settings.json", "system.json", "status-1.json", "log-1.txt")
    }
    everything = "\n".join(texts.values())
    assert "mounted" in texts["up42fs-support/log-1.txt"]
    assert service.env["UP42_USERNAME"] not in everything
    assert str(tmp_path) not in everything
    assert "Signature=" not in everything.replace("Signature=<redacted>", "")


@pytest.mark.mount
def test_the_command_without_an_account(tmp_path: Path, service: Emulator) -> None:
    servers = {k: v for k, v in service.env.items() if k.endswith("_URL")}
    place = tmp_path / "none"
    done = run(*UP42FS, "doctor", "--json", place, env={**servers, "HOME": str(tmp_path)})
    assert done.returncode == 1
    failed = {f["check"]: f["cure"] for f in json.loads(done.stdout) if f["level"] == "fail"}
    assert failed == {"account": "up42fs login", "mount point": f"mkdir -p {place}"}


def test_nothing_secret_goes_into_the_archive(fake: Fake, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"GET https://x/y?Signature=abc&a=b\npassword='{SECRET}'\nuser me@example.com\n")
    settings = Settings(username="me@example.com", password=SECRET, credentials=Path("/home/me/c"))
    status = {"account": "me@example.com", "log_file": "/elsewhere"}
    findings = [Finding("account", Severity.OK, f"me@example.com {SECRET}")]
    archive = tmp_path / "x.tar.gz"
    bundle.write(archive, fake.machine(), settings, findings, [bundle.MountReport(status, log)])
    with tarfile.open(archive) as tar:
        text = "".join(tar.extractfile(m).read().decode() for m in tar)  # type: ignore[union-attr]
    for secret in (SECRET, "abc", "me@example.com", "/home/me", socket.gethostname()):
        assert secret not in text or len(secret) <= 2, secret
    assert "<account>" in text
    assert os.stat(archive).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o666])
def test_an_archive_in_place_of_a_file_leaves_its_mode(
    fake: Fake, tmp_path: Path, mode: int
) -> None:
    """As with `--bundle /dev/stdout`, and root's `--bundle /dev/null`."""
    (tmp_path / "old").write_bytes(b"x" * 100_000)
    (tmp_path / "old").chmod(mode)
    (tmp_path / "x.tar.gz").symlink_to("old")
    bundle.write(tmp_path / "x.tar.gz", fake.machine(), Settings(), [], [])
    assert os.stat(tmp_path / "old").st_mode & 0o777 == mode
    assert tarfile.is_tarfile(tmp_path / "old")


def test_what_took_the_place_of_a_log_is_not_read(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "real").write_text(SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing"):
        archive = tmp_path / "x.tar.gz"
        bundle.write(
            archive, fake.machine(), Settings(), [], [bundle.MountReport({}, tmp_path / name)]
        )
        with tarfile.open(archive) as tar:
            text = "".join(tar.extractfile(m).read().decode() for m in tar)  # type: ignore[union-attr]
        assert SECRET not in text
        assert "the log" in text


names_of_status = st.sampled_from([*GOOD, "counters", "store", "open", "edits", "sidecars",
    "top_files", "fetched_files", "egress", "name", "programs", "time", "message", "error",
    "failed", "made", "bytes", "store.reads", "fuse.errors_EIO", "mounted_seconds", "notes",
    "for_others"]) | st.text(max_size=4)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names_of_status, inner, max_size=5),
    max_leaves=15,
)


@pytest.mark.claim("S152")
@given(st.dictionaries(names_of_status, json_values, max_size=12))
def test_no_status_is_too_odd(document: dict[str, Any]) -> None:
    status = foreign.status(document)
    json.dumps(status, allow_nan=False)
    for name, text in status_view.rows(status):
        assert name.isprintable()
        assert text.isprintable()
        markup.render(text)
    found = list(mounted.examine(Machine(root=Path("/nonexistent")), MOUNT, status))
    assert found
    assert all(f.words.isprintable() and f.cure.isprintable() for f in found)
    exposition.render(status)


@given(json_values)
def test_what_is_no_object_is_no_status(document: Any) -> None:
    if not isinstance(document, dict):
        with pytest.raises(ValueError, match="object"):
            foreign.status(document)


def test_a_good_status_stays_as_it_is() -> None:
    shown = foreign.status(dict(GOOD))
    assert {**shown, "kernel": 0, "catalogue": 0, "disk_cache": 0} == {
        **GOOD, "kernel": 0, "catalogue": 0, "disk_cache": 0, "store": {}, "open": {},
        "counters": {},
    }  # fmt: skip
    assert shown["catalogue"]["assets"]["seconds_since_refresh"] == 5.0
    assert shown["disk_cache"]["directory"] == "/c"
    assert foreign.status(shown) == shown
