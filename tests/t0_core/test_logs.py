"""Secrets never reach a log: not in a message, an argument, or a traceback."""

from __future__ import annotations

import io
import json
import logging
import os
import stat
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.log_files import open_log
from up42fs.logs import Recent, RedactingFormatter, redact, set_up, toggle_debug

#: Long enough not to be part of the words around it by chance.
tokens = st.text(string.ascii_letters + string.digits + "-_.~+/%=", min_size=12).map("qZ7".__add__)
passwords = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=8
).map("qZ7".__add__)
around = st.sampled_from(["", " ", "x ", "\n", "GET https://h/p?a=b&", "'", '"', "(", "headers: "])

FORMS = (
    "Signature={}",
    "signature={}&Expires=170",
    "X-Goog-Signature={}",
    "x-goog-signature={}&x=y",
    "X-Amz-Signature={}",
    "Authorization: Bearer {}",
    "bearer {}",
    "{{'Authorization': 'Bearer {}'}}",
    "access_token={}&expires_in=300",
    '{{"access_token": "{}", "expires_in": 300}}',
    '{{"refresh_token":"{}"}}',
    "{{'access_token': '{}'}}",
    '{{\\"access_token\\": \\"{}\\"}}',
    "grant_type=password&password={}",
    "proxy http://user:{}@proxy.example:3128",
    "https://h/?u=Signature%3D{}",
)


@given(before=around, form=st.sampled_from(FORMS), token=tokens, after=around)
def test_no_token_survives(before: str, form: str, token: str, after: str) -> None:
    written = redact(before + form.format(token) + after)
    assert token not in written
    assert "<redacted>" in written


@given(before=around, password=passwords, after=st.sampled_from(["", "\n", '"}']))
def test_no_password_survives(before: str, password: str, after: str) -> None:
    body = json.dumps({"username": "me", "password": password}, ensure_ascii=False)
    for text in (body, repr({"password": password}), f"password={''.join(password.split())}"):
        written = redact(before + text + after)
        around_it = redact(before + "password=" + after)  # `https:` may stand there by right
        for piece in _pieces(password):
            assert piece not in written or piece in around_it


def _pieces(secret: str) -> list[str]:
    """Every six characters in a row: half a secret is a secret too."""
    return [secret[start : start + 6] for start in range(len(secret) - 5)]


@given(st.text())
def test_what_is_no_secret_stays(text: str) -> None:
    if not any(word in text.lower() for word in ("bearer", "signature", "password", "token")):
        assert redact(text) == text


def test_a_message_about_passwords_stays_readable() -> None:
    for text in (
        "-o password= would show the password to every user of this machine",
        "set UP42_USERNAME and UP42_PASSWORD, or use --credentials FILE",
        "the access token expired",
    ):
        assert redact(text) == text


@given(form=st.sampled_from(FORMS), token=tokens)
def test_no_token_survives_in_a_traceback(form: str, token: str) -> None:
    stream = io.StringIO()
    logger = logging.Logger("private")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    logger.addHandler(handler)
    try:
        try:
            raise ValueError(form.format(token))
        except ValueError as cause:
            raise ExceptionGroup("several", [RuntimeError(form.format(token))]) from cause
    except ExceptionGroup:
        logger.exception("while asking %s", form.format(token))
    written = stream.getvalue()
    assert "Traceback" in written
    assert written.count("<redacted>") >= 3
    assert token not in written


@pytest.fixture
def _root_logger() -> Iterator[None]:
    """Gives the root logger its handlers and level back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    chatty = {name: logging.getLogger(name).level for name in ("httpx", "httpcore", "hpack")}
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in chatty.items():
        logging.getLogger(name).setLevel(old)


@pytest.mark.usefixtures("_root_logger")
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.claim("S101")
def test_a_new_file_is_for_its_owner_only_and_an_old_one_as_it_was(
    tmp_path: Path, existing: bool
) -> None:
    path = tmp_path / "state" / "up42fs" / "x.log"
    if existing:
        path.parent.mkdir(parents=True)
        path.write_text("old line\n")
        path.chmod(0o644)
    set_up("info", path)
    logging.getLogger("up42fs.test").info("asked with Bearer %s", "s3cret-token")
    logging.getLogger("up42fs.test").debug("not at this level")
    assert stat.S_IMODE(path.stat().st_mode) == (0o644 if existing else 0o600)
    written = path.read_text()
    assert "asked with Bearer <redacted>" in written
    assert "s3cret" not in written
    assert "not at this level" not in written
    assert written.startswith("old line\n") == existing


@pytest.mark.usefixtures("_root_logger")
@pytest.mark.claim("S101")
@pytest.mark.parametrize("mode", [0o640, 0o666, 0o400])
def test_a_link_to_a_log_changes_no_mode(tmp_path: Path, mode: int) -> None:
    """As the administrator's log directory has them, or /dev/stdout is one."""
    (tmp_path / "real.log").touch()
    (tmp_path / "real.log").chmod(mode)
    (tmp_path / "x.log").symlink_to("real.log")
    if os.access(tmp_path / "real.log", os.W_OK):
        set_up("info", tmp_path / "x.log")
        logging.getLogger("up42fs.test").info("written")
        assert "written" in (tmp_path / "real.log").read_text()
    else:
        with pytest.raises(PermissionError):
            set_up("info", tmp_path / "x.log")
    assert (tmp_path / "x.log").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.log").stat().st_mode) == mode


@pytest.mark.usefixtures("_root_logger")
def test_a_device_stays_as_it_was(tmp_path: Path) -> None:
    """As root, who could change it for everybody."""
    if os.getuid() == 0:
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        (tmp_path / "null").chmod(0o666)
    else:
        (tmp_path / "null").symlink_to("/dev/null")
    before = (tmp_path / "null").stat()
    set_up("info", tmp_path / "null")
    logging.getLogger("up42fs.test").info("x")
    assert (tmp_path / "null").stat().st_mode == before.st_mode


@pytest.mark.usefixtures("_root_logger")
def test_a_pipe_that_nobody_reads_is_an_error_and_no_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o622)
    with pytest.raises(OSError, match="No such device"):
        set_up("info", tmp_path / "pipe")


def test_a_log_is_never_open_to_others(tmp_path: Path) -> None:
    """Born with its mode: no moment between creating and changing it, whatever the umask."""
    before = os.umask(0)
    try:
        os.close(open_log(tmp_path / "x.log"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.log").stat().st_mode) == 0o600


@pytest.mark.usefixtures("_root_logger")
def test_request_lines_of_the_http_client_are_not_logged(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    set_up("debug", path)
    logging.getLogger("httpx").info("HTTP Request: GET https://h/o?Signature=abc")
    logging.getLogger("up42fs.test").debug("ours")
    written = path.read_text()
    assert "HTTP Request" not in written
    assert "ours" in written


@pytest.mark.usefixtures("_root_logger")
def test_without_a_file_it_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("warning", None)
    logging.getLogger("up42fs.test").warning("password=%s", "hunter2")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("WARNING up42fs.test: password=<redacted>\n")


@pytest.mark.usefixtures("_root_logger")
def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=str(tmp_path)):
        set_up("info", tmp_path)


# forms ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_root_logger")
def test_an_event_is_an_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    set_up("info", path, "json")
    logger = logging.getLogger("up42fs.test")
    logger.warning("a\nb %s", "Signature=s3cret")
    try:
        raise ValueError("Bearer s3cret")
    except ValueError:
        logger.exception("failed")
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["message"] == "a\nb Signature=<redacted>"
    assert (first["level"], first["logger"]) == ("warning", "up42fs.test")
    assert first["time"].endswith("Z")
    assert "traceback" not in first
    assert second["traceback"].endswith("ValueError: Bearer <redacted>")


@pytest.mark.usefixtures("_root_logger")
def test_no_message_looks_like_another_event(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    set_up("info", path)
    logging.getLogger("up42fs.test").warning("said: %s", "no\n2026-01-01 ERROR up42fs: forged")
    assert [line[:4] for line in path.read_text().splitlines()][1] == "    "


@pytest.mark.usefixtures("_root_logger")
def test_the_journal_gets_priorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w") as journal:
        monkeypatch.setattr("sys.stderr", journal)
        state = (tmp_path / "journal").stat()
        monkeypatch.setenv("JOURNAL_STREAM", f"{state.st_dev}:{state.st_ino}")
        set_up("debug", None)
        for level in ("error", "warning", "info", "debug"):
            getattr(logging.getLogger("up42fs.test"), level)("about a.zip")
    # Threads of other tests in this process may log, too.
    lines = (tmp_path / "journal").read_text().splitlines()
    assert [line for line in lines if "up42fs.test: " in line] == [
        f"<{priority}>up42fs.test: about a.zip" for priority in (3, 4, 6, 7)
    ]


@pytest.mark.usefixtures("_root_logger")
@pytest.mark.parametrize("stream", ["", "1:2", "nonsense"])
def test_standard_error_that_is_no_journal(
    stream: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    set_up("info", None)
    logging.getLogger("up42fs.test").info("x")
    assert capsys.readouterr().err.endswith("INFO up42fs.test: x\n")


@pytest.mark.usefixtures("_root_logger")
def test_debug_messages_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    set_up("warning", path)
    logger = logging.getLogger("up42fs.test")
    assert toggle_debug() == "debug"
    logger.debug("heard")
    assert toggle_debug() == "warning"
    logger.debug("not heard")
    assert "up42fs.test: heard" in path.read_text()
    assert "not heard" not in path.read_text()


def test_the_latest_troubles_are_kept_without_secrets() -> None:
    recent = Recent(most=2)
    logger = logging.Logger("private")
    logger.addHandler(recent)
    for number in range(4):
        logger.warning("trouble %d, Signature=abc", number)
        logger.info("no trouble")
    kept = recent.latest()
    assert [entry["message"] for entry in kept] == [
        "trouble 2, Signature=<redacted>",
        "trouble 3, Signature=<redacted>",
    ]
    assert kept[0]["level"] == "WARNING"
