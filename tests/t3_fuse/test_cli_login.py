"""`up42fs login` and `logout` as a user types them, and what `mount` makes of them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from harness import REPOSITORY, Emulator, run

from up42fs.config.logins import Logins
from up42fs.config.settings import Settings
from up42fs.errors import ConfigurationError

SECRET = "hunter2-hunter2"
NO_KEYRING = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}


class User:
    """Somebody with a home, at the emulator's servers; the password is typed, never in `env`."""

    def __init__(self, home: Path, emulator: Emulator, env: dict[str, str]) -> None:
        self.home = home
        self.password = emulator.env["UP42_PASSWORD"]
        self.name = emulator.env["UP42_USERNAME"]
        self.orders = len(emulator.remote.storage()["orders"])
        self.servers = {k: emulator.env[k] for k in ("UP42_API_URL", "UP42_AUTH_URL")}
        self.env = {"HOME": str(home), **env}
        self.file = home / ".config" / "up42fs" / "logins.json"

    @property
    def keyring(self) -> Path:
        return Path(self.env["TEST_KEYRING"])

    def __call__(self, *arguments: str, typed: str | None = None, **env: str):
        return run(
            *(sys.executable, "-m", "up42fs", *arguments),
            env=self.env | env,
            input=typed or "",
            cwd=REPOSITORY,
        )

    def login(self, *arguments: str) -> str:
        done = self(
            *("login", "--username", self.name, *arguments),
            typed=self.password + "\n",
            **self.servers,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def mount_says(self, **env: str) -> str:
        """The complaint of a mount; empty where it worked (then it is taken away again)."""
        place = self.home / "mnt"
        place.mkdir(exist_ok=True)
        done = self("mount", str(place), **env)
        if done.returncode == 0:
            assert self("unmount", str(place)).returncode == 0
            return ""
        return done.stderr


@pytest.fixture
def user(tmp_path: Path, sample: Emulator) -> User:
    """One without a keyring."""
    return User(tmp_path, sample, NO_KEYRING)


@pytest.fixture
def desktop_user(tmp_path: Path, sample: Emulator) -> User:
    """One with a keyring."""
    env = {
        "PYTHON_KEYRING_BACKEND": "file_keyring.FileKeyring",
        "PYTHONPATH": str(REPOSITORY / "tests"),
        "TEST_KEYRING": str(tmp_path / "keyring.json"),
    }
    return User(tmp_path, sample, env)


@pytest.mark.claim("S147")
def test_an_account_that_cannot_be_kept_is_said(user: User, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    done = user(
        *("login", "--username", user.name),
        typed=user.password + "\n",
        XDG_CONFIG_HOME=str(in_the_way),
        **user.servers,
    )
    assert done.returncode == 1
    file = in_the_way / "up42fs/logins.json"
    assert f"{user.name} cannot be kept in {file}: Not a directory; set XDG" in done.stderr
    assert "Errno" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.mount
def test_from_login_to_a_mount_in_two_commands(user: User) -> None:
    said = user.login()
    assert said.startswith("Signed in to UP42 (")
    assert f") as {user.name}: {user.orders} orders, " in said
    assert f"\nThe password is kept in {user.file}" in said
    assert said.endswith("\nNext: mkdir -p ~/up42 && up42fs mount ~/up42\n")
    assert user.file.stat().st_mode & 0o777 == 0o600
    assert user.mount_says() == ""


@pytest.mark.mount
def test_the_keyring_has_the_password_and_the_file_has_not(desktop_user: User) -> None:
    assert "keyring" in desktop_user.login()
    assert json.loads(desktop_user.file.read_text())["logins"][0]["password"] is None
    assert desktop_user.password in json.loads(desktop_user.keyring.read_text()).values()
    assert desktop_user.mount_says() == ""
    desktop_user.keyring.unlink()
    assert "up42fs login" in desktop_user.mount_says()
    assert "keyring does not give the password" in desktop_user.mount_says(**NO_KEYRING)


def test_a_keyring_that_fails_is_no_keyring(desktop_user: User, tmp_path: Path) -> None:
    desktop_user.env["TEST_KEYRING"] = str(tmp_path)
    assert str(desktop_user.file) in desktop_user.login()
    kept = json.loads(desktop_user.file.read_text())["logins"][0]
    assert kept["password"] == desktop_user.password


def test_no_keyring_is_asked_for(desktop_user: User) -> None:
    assert str(desktop_user.file) in desktop_user.login("--no-keyring")
    assert not desktop_user.keyring.exists()


def test_a_refused_password_is_not_kept(user: User) -> None:
    done = user("login", "--username", user.name, typed=SECRET + "\n", **user.servers)
    assert (done.returncode, done.stdout) == (1, "")
    assert "refused the user name or password" in done.stderr
    assert SECRET not in done.stderr
    assert not user.file.exists()


@pytest.mark.parametrize(
    ("arguments", "typed", "what"),
    [
        (["login"], SECRET, "no user name given"),
        (["login", "--username", "me"], "\n", "no password given"),
        (["login", "--region", "mars"], "", "one of eu, sa"),
        (["logout"], "", "nobody is signed in"),
        (["login", "--as", "default"], "", "the default account has no name: leave --as out"),
    ],
)
def test_what_is_missing_is_said(user: User, arguments: list[str], typed: str, what: str) -> None:
    done = user(*arguments, typed=typed)
    assert (done.returncode, done.stdout) == (
        2 if "one of" in what or "leave --as" in what else 1,
        "",
    )
    assert what in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_password_as_argument_is_refused(user: User) -> None:
    done = user("login", "--password", SECRET)
    assert done.returncode == 2
    assert SECRET not in done.stderr


def test_logout_forgets_everything(desktop_user: User) -> None:
    desktop_user.login()
    said = desktop_user("logout").stdout
    assert said.startswith(f"Signed out {desktop_user.name}"), said
    assert not desktop_user.file.exists()
    assert json.loads(desktop_user.keyring.read_text()) == {}
    assert "nobody is signed in" in desktop_user("logout").stderr


@pytest.mark.claim("S104")
@pytest.mark.parametrize(
    ("env", "reason"),
    [
        (NO_KEYRING, "there is none here"),
        ({"TEST_KEYRING": "/"}, "[Errno 21] Is a directory"),
        ({"TEST_KEYRING_KEEPS": "1"}, "it still has the entry"),
    ],
    ids=["no keyring", "a locked one", "one that lies"],
)
def test_logout_says_what_it_could_not_remove(
    desktop_user: User, env: dict[str, str], reason: str
) -> None:
    """The account is no longer used; that its password is still there is said, and where."""
    desktop_user.login()
    done = desktop_user("logout", **env)
    assert done.returncode == 1
    assert "forgotten" not in done.stdout + done.stderr
    where = desktop_user.servers["UP42_API_URL"]
    assert done.stdout == f"Signed out {desktop_user.name} ({where}).\n"
    assert f"still in the system's keyring, which did not remove it ({reason}" in done.stderr
    entry = f"{desktop_user.name} at {desktop_user.servers['UP42_AUTH_URL']}"
    assert done.stderr.endswith(f"secret-tool clear service up42fs username '{entry}'\n")
    assert done.stderr.count("\n") == 1
    assert not desktop_user.file.exists()
    assert desktop_user.password in json.loads(desktop_user.keyring.read_text()).values()


def test_logout_where_the_entry_is_gone_already(desktop_user: User) -> None:
    desktop_user.login()
    desktop_user.keyring.unlink()
    done = desktop_user("logout")
    assert (done.returncode, done.stderr) == (0, "")
    assert "is forgotten" in done.stdout


def test_another_login_leaves_no_password_behind(desktop_user: User) -> None:
    """Not even where the password moves from the keyring to the file."""
    desktop_user.login()
    desktop_user.login("--no-keyring")
    assert json.loads(desktop_user.keyring.read_text()) == {}
    desktop_user.login()
    desktop_user.login()
    assert list(json.loads(desktop_user.keyring.read_text()).values()) == [desktop_user.password]


def test_logout_of_all(user: User, tmp_path: Path) -> None:
    logins_of(user.file, EU, SA)
    done = user("logout", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert "eu@example.com (eu)" in done.stdout
    assert "sa@example.com (sa)" in done.stdout
    assert not user.file.exists()
    assert "nobody is signed in; nothing to forget" in user("logout", "--all").stderr


def test_the_password_is_not_shown_while_typed(user: User) -> None:
    seen, status = type_at(
        user,
        (b"user name (e-mail address): ", user.name.encode() + b"\n"),
        (b"Password of ", user.password.encode() + b"\n"),
        (b"Next: ", b""),
    )
    assert status == 0
    typed_blind = f"Password of {user.name}: \r\nSigned in"
    assert typed_blind.encode() in seen


@pytest.mark.parametrize("answers", [0, 1], ids=["name", "password"])
def test_ctrl_d_where_a_question_stands_is_a_way_out(user: User, answers: int) -> None:
    questions = [
        (b"user name (e-mail address): ", b"me@example.com\n"),
        (b"Password of ", b"x\n"),
    ]
    seen, status = type_at(
        user, *questions[:answers], (questions[answers][0], b"\x04"), (b"cancelled\r\n", b"")
    )
    assert status == 1
    assert seen.endswith(b"\r\nup42fs: cancelled\r\n")
    assert b"Traceback" not in seen


def test_a_password_in_another_encoding_is_said(user: User) -> None:
    for locale in ("C.UTF-8", "en_US.UTF-8"):  # Python reads standard input less strictly in C
        user.env["LC_ALL"] = locale
        dialogue = [(b"user name (e-mail address): ", b"me\n"), (b"Password of ", b"k\xf6ln\n")]
        seen, status = type_at(user, *dialogue, (b"the password is not in the encoding", b"\n"))
        assert status == 1
        assert b"Traceback" not in seen
        assert b"f6" not in seen


def type_at(user: User, *dialogue: tuple[bytes, bytes]) -> tuple[bytes, int]:
    """`up42fs login` at a terminal: what is typed after which words; what is seen, the status."""
    typist, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "up42fs", "login"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={"PATH": os.environ["PATH"], **user.env, **user.servers},
        cwd=REPOSITORY,
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""

    def read_until(words: bytes) -> None:
        nonlocal seen
        while words not in seen:
            seen += os.read(typist, 4096)

    for words, typed in dialogue:
        read_until(words)
        os.write(typist, typed)
    try:
        return seen, process.wait(20)
    finally:
        os.close(typist)


# which account is used ------------------------------------------------------------------------


def logins(tmp_path: Path, *settings: Settings) -> Logins:
    return logins_of(tmp_path / "up42fs" / "logins.json", *settings)


def logins_of(path: Path, *settings: Settings) -> Logins:
    kept = Logins(path)
    for one in settings:
        kept.add(one, use_keyring=False)
    return kept


EU = Settings(username="eu@example.com", password="in-eu")
SA = Settings(username="sa@example.com", password="in-sa", region="sa")


def test_an_account_is_used_at_its_own_server_only(tmp_path: Path) -> None:
    kept = logins(tmp_path, EU, SA)
    assert kept.complete(Settings()).password == "in-eu"
    assert kept.complete(Settings(region="sa")).username == "sa@example.com"
    elsewhere = Settings(auth_url="https://auth.example.com")
    assert kept.complete(elsewhere) == elsewhere


def test_settings_win_over_a_login(tmp_path: Path) -> None:
    kept = logins(tmp_path, EU)
    other = Settings(username="other@example.com")
    assert kept.complete(other) == other
    assert kept.complete(Settings(username="eu@example.com")).password == "in-eu"
    assert kept.complete(Settings(username="x", password="y")).password == "y"


def test_the_newest_login_says_where_to_go(tmp_path: Path) -> None:
    assert logins(tmp_path).place() == {}
    assert logins(tmp_path, EU, SA).place() == {"region": "sa"}
    assert logins(tmp_path, EU).place() == {"region": "eu"}
    assert logins(tmp_path).remove(EU) is not None
    assert logins(tmp_path).place() == {"region": "sa"}


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    kept = logins(tmp_path, EU)
    path = tmp_path / "up42fs" / "logins.json"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        kept.complete(Settings())


@pytest.mark.parametrize("text", ["", "[]", '{"logins": [{"who": 1}]}', '{"logins": 3}', "\xff"])
def test_a_damaged_file_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "logins.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError, match="sign in again"):
        Logins(path).all()


def test_no_password_in_a_repr(tmp_path: Path) -> None:
    assert "in-eu" not in repr(logins(tmp_path, EU).all())
