"""Which account a command means, by every mixture of sources and logins."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.catalog.snapshot.snapshot import snapshot_path
from up42fs.cli import accounts as command
from up42fs.config import accounts
from up42fs.config.logins import Logins
from up42fs.config.settings import Settings
from up42fs.engine.account import account_key
from up42fs.errors import ConfigurationError, UsageError

EU = Settings(username="me@example.com", password="secret-eu")
LAB = Settings(username="lab@example.com", password="secret-lab", workspace="w-lab")
SA = Settings(username="me@example.com", password="secret-sa", region="sa")
NAMES: dict[str | None, Settings] = {None: EU, "lab": LAB, "sa": SA}


def kept(path: Path, *names: str | None) -> Logins:
    logins = Logins(path / "logins.json")
    for name in names:
        logins.add(NAMES[name], use_keyring=False, name=name)
    return logins


@pytest.fixture
def logins(tmp_path: Path) -> Logins:
    return kept(tmp_path, None, "lab", "sa")


def meant(
    logins: Logins,
    arguments: Mapping[str, str] = {},
    options: Mapping[str, str] = {},
    environ: Mapping[str, str] = {},
    file: Mapping[str, str] = {},
) -> Settings:
    return accounts.settings_of(
        arguments=arguments, mount_options=options, environ=environ, file=file, logins=logins
    )


def who(settings: Settings) -> tuple[str | None, ...]:
    return settings.account, settings.username, settings.password, settings.region


def test_a_name_chooses_user_password_server_and_workspace(logins: Logins) -> None:
    assert who(meant(logins)) == (None, EU.username, EU.password, "eu")
    assert who(meant(logins, {"account": "sa"})) == ("sa", SA.username, SA.password, "sa")
    lab = meant(logins, {}, {"account": "lab"})
    assert (lab.account, lab.password, lab.workspace) == ("lab", LAB.password, "w-lab")
    assert meant(logins, {"account": "lab", "workspace": "other"}).workspace == "other"
    assert meant(logins, {}, {}, {"UP42_ACCOUNT": "lab"}).password == LAB.password
    assert meant(logins, file={"account": "lab"}).password == LAB.password


OTHER = {
    "username": "x@example.com",
    "password": "p",
    "region": "sa",
    "api_url": "https://x.example",
    "workspace": "w-x",
}
some = st.dictionaries(st.sampled_from(sorted(OTHER)), st.just(""), max_size=4).map(
    lambda names: {name: OTHER[name] for name in names}
)


@given(environ=some, file=some)
def test_what_lower_sources_say_of_another_account_does_not_count(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str], file: dict[str, str]
) -> None:
    logins = kept(tmp_path_factory.getbasetemp(), None, "lab", "sa")
    variables = {f"UP42_{name.upper()}": text for name, text in environ.items()}
    found = meant(logins, {}, {"account": "lab"}, variables, file)
    assert who(found) == ("lab", LAB.username, LAB.password, "eu")
    assert (found.api_url, found.workspace) == (None, "w-lab")


def test_an_account_of_a_higher_source_wins_over_a_name(logins: Logins) -> None:
    variables = {"UP42_USERNAME": "x@example.com", "UP42_PASSWORD": "p"}
    found = meant(logins, environ=variables, file={"account": "lab"})
    assert who(found) == (None, "x@example.com", "p", "eu")
    assert meant(logins, {"region": "sa"}, file={"account": "lab"}).region == "sa"


def test_the_name_default_means_the_account_without_a_name(logins: Logins) -> None:
    found = meant(logins, {"account": "default"}, environ={"UP42_ACCOUNT": "lab"})
    assert who(found) == (None, EU.username, EU.password, "eu")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"username": "x@example.com"}, "the account lab is lab@example.com, and x@example.com"),
        ({"region": "sa"}, "the account lab is signed in at eu, and sa is given, too"),
        ({"credentials": "/tmp/c.json"}, "both account=lab and credentials"),
    ],
)
def test_one_source_that_contradicts_itself_is_refused(
    logins: Logins, more: dict[str, str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        meant(logins, {}, {"account": "lab", **more})
    same = {"username": "LAB@example.com", "region": "eu"}
    assert meant(logins, {}, {"account": "lab", **same}).password == LAB.password


def test_an_unknown_name_says_which_are_known(logins: Logins, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        meant(logins, {"account": "labb"})
    assert str(error.value) == (
        "nobody is signed in as labb; did you mean lab? Known are: default, lab, sa. Choose one of "
        "them, or sign in: up42fs login --as labb"
    )
    nobody = Logins(tmp_path / "none" / "logins.json")
    with pytest.raises(ConfigurationError, match="there is no account lab; sign in: up42fs login"):
        meant(nobody, {"account": "lab"})


def test_the_only_account_is_the_default_one_and_of_two_names_none_is(tmp_path: Path) -> None:
    logins = kept(tmp_path, "sa")
    assert who(meant(logins))[1:] == (SA.username, SA.password, "sa")
    kept(tmp_path, "lab")
    found = meant(logins)
    assert (found.username, found.password) == (None, None)
    assert "these are signed in: sa, lab; choose one, as in --account sa" in found.account_hint


def test_a_new_login_replaces_that_of_its_name_only(logins: Logins) -> None:
    logins.add(Settings(username="new@example.com", password="n"), use_keyring=False, name="lab")
    assert [login.username for login in logins.all()] == [
        *(EU.username, SA.username, "new@example.com")
    ]
    logins.add(Settings(username="eu2@example.com", password="n"), use_keyring=False)
    assert {login.name: login.username for login in logins.all()} == {
        None: "eu2@example.com",
        "sa": SA.username,
        "lab": "new@example.com",
    }
    logins.forget(logins.named("sa"))
    assert [login.name for login in logins.all()] == [None, "lab"]


def test_logins_of_earlier_versions_are_read_and_stay_readable_to_them(tmp_path: Path) -> None:
    file = tmp_path / "logins.json"
    entry = {"username": "a@b", "region": "eu", "api_url": None, "auth_url": None, "password": "p"}
    file.write_text(json.dumps({"logins": [entry]}))
    file.chmod(0o600)
    logins = Logins(file)
    assert meant(logins).username == "a@b"
    logins.add(LAB, use_keyring=False, name="lab")
    document = json.loads(file.read_text())
    assert document["logins"] == [entry]
    assert document["named"][0]["name"] == "lab"


def test_two_accounts_share_no_directory_and_no_book() -> None:
    assert account_key(EU) != account_key(LAB)
    assert account_key(EU) != account_key(SA)
    places = {
        snapshot_path(Path("/c"), api=s.api, username=s.username or "", workspace=s.workspace)
        for s in NAMES.values()
    }
    assert len(places) == 3


@pytest.mark.claim("S363")
def test_the_list_shows_no_password(
    logins: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(command, "default_path", lambda _: tmp_path / "logins.json")
    for has_json in (False, True):
        options = Namespace(json=has_json)
        assert command.main(options) == 0
        said = capsys.readouterr().out
        assert "secret" not in said
        assert "lab@example.com" in said
    found = {entry["name"]: entry for entry in json.loads(said)}
    assert found[None]["is_default"] is True
    assert (found["lab"]["workspace"], found["lab"]["password_in"]) == ("w-lab", "file")
    assert found["sa"]["region"] == "sa"
    for login in logins.all():
        logins.forget(login)
    assert command.main(Namespace(json=True)) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_shared_keyring_entry_stays_while_a_name_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from file_keyring import FileKeyring

    from up42fs.config import logins as module

    monkeypatch.setenv("TEST_KEYRING", str(tmp_path / "keyring.json"))
    ring = FileKeyring()
    monkeypatch.setattr(module, "_keyring", lambda: ring)
    logins = Logins(tmp_path / "logins.json")
    for name in ("a", "b"):
        assert logins.add(EU, name=name).is_in_keyring
    assert logins.forget(logins.named("a")).left is None
    assert meant(logins, {"account": "b"}).password == EU.password
    assert logins.forget(logins.named("b")).left is None
    assert ring.load() == {}
