"""Certificates that nobody should trust: no command and no read takes anything behind them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from certificates import make_certificate
from harness import UP42FS, mounted, run, wait_until
from stranger import stranger

from up42fs.emulator import pattern_bytes

pytestmark = pytest.mark.mount

#: Deadlines divided by five.
HURRY = {"UP42FS_HURRY": "5"}
#: By name: days until it ends, whether the user trusts it all the same, what is said.
BAD = {
    "self-signed": (2, False, "(self-signed certificate)"),
    "expired": (-1, True, "(certificate has expired)"),
}
each_bad = pytest.mark.parametrize(("days", "is_trusted", "fault"), BAD.values(), ids=BAD)


@pytest.mark.claim("S115")
@each_bad
def test_an_api_with_a_bad_certificate_is_not_mounted(
    tmp_path: Path, days: int, is_trusted: bool, fault: str
) -> None:
    shown = make_certificate(tmp_path, "shown", days=days)
    trust = {"SSL_CERT_FILE": str(shown)} if is_trusted else {}
    place = tmp_path / "mount"
    place.mkdir()
    with stranger(shown) as service:
        env = service.env | trust | HURRY | {"HOME": str(tmp_path)}
        for words in (
            ("mount", str(place)),
            ("ls", "assets"),
            ("login", "--username", "me@example.com"),
        ):
            done = run(*UP42FS, *words, env=env, input="a strange passw0rd\n")
            assert done.returncode == 1, done
            assert "127.0.0.1" in done.stderr, words
            assert fault in done.stderr, words
            assert "check this machine's clock, and SSL_CERT_FILE" in done.stderr, words
            assert "strange" not in done.stderr
        assert not os.path.ismount(place)
        done = run(*UP42FS, "doctor", "--json", env=env)
        bad = [f for f in json.loads(done.stdout) if f["check"] == "tls" and f["level"] == "fail"]
        assert bad
        assert "SSL_CERT_FILE" in bad[0]["cure"]
    assert service.seen == [], "no request, and so no password, reached it"


@pytest.mark.claim("S115")
@each_bad
def test_a_store_with_a_bad_certificate_is_not_read(
    tmp_path: Path, days: int, is_trusted: bool, fault: str
) -> None:
    good, bad = make_certificate(tmp_path, "good"), make_certificate(tmp_path, "bad", days=days)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(good.read_bytes() + (bad.read_bytes() if is_trusted else b""))
    with stranger(good) as service, stranger(bad) as store:
        store.rows = service.rows
        service.link = lambda asset: f"{store.url}/bucket/{asset}?k=s3cr"
        env = service.env | HURRY | {"SSL_CERT_FILE": str(trusted)}
        with mounted(env, home=tmp_path) as there:
            path = there.find("file 1.bin")
            with pytest.raises(OSError) as caught:
                path.read_bytes()
            assert caught.value.errno == errno.EIO
            assert store.seen == [], "no link reached it"

            def log() -> str:
                return there.log.read_text()

            wait_until(lambda: fault in log(), 5, log)
            assert f"asset {service.rows[0]['id']}" in log()
            assert "check this machine's clock, and SSL_CERT_FILE" in log()
            assert "s3cr" not in log()
            # The mount is healthy: with a good certificate the same file is read.
            service.link = None
            assert path.read_bytes() == pattern_bytes(1, 0, 300_000)
