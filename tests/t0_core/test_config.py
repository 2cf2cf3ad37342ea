"""Settings: every source of every option, every refusal, and no secret in sight."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.config.options import (
    IGNORED_MOUNT_OPTIONS,
    OPTIONS,
    REGIONS,
    MostEgress,
    Option,
    parse_mount_options,
)
from up42fs.config.settings import (
    Settings,
    default_file,
    describe,
    is_open_to_others,
    load_file,
    resolve,
)
from up42fs.errors import ConfigurationError

SECRET = "hunter2-hunter2"

#: Four values of each option, as text and as read: none is a default, all differ where they can.
VALUES: dict[str, list[tuple[str, object]]] = {
    **{
        name: [(f"{name}{n}", f"{name}{n}") for n in range(4)]
        for name in ("username", "password", "workspace", "account", "api_url", "auth_url")
    },
    **{
        name: [(f"/tmp/{name}{n}", Path(f"/tmp/{name}{n}")) for n in range(4)]
        for name in ("cache_dir", "log_file")
    },
    **{
        name: [("yes", True), ("no", False), ("on", True), ("0", False)]
        for name in (
            "ro",
            "rw",
            "edit",
            "allow_other",
            "share_links",
            "footprints",
            "sidecars",
            "documents",
            "noreadme",
            "previews",
        )
    },
    "archives": [(how, how) for how in ("on", "hidden", "off", "on")],
    "names": [(how, how) for how in ("title", "id", "file", "title")],
    "orders": [(how, how) for how in ("all", "delivered", "all", "all")],
    "nonempty": [("yes", True), ("no", False), ("on", True), ("0", False)],
    **{name: [(str(n), n) for n in range(70, 74)] for name in ("uid", "gid", "read_ahead")},
    "memory": [("16", 16), ("1G", 1024), ("1000", 1000), ("64M", 64)],
    "region": [("sa", "sa"), ("eu", "eu"), ("sa", "sa"), ("eu", "eu")],
    "umask": [("077", 0o77), ("0", 0), ("777", 0o777), ("0o27", 0o27)],
    "refresh": [("5", 5.0), ("0.5", 0.5), ("1e3", 1000.0), ("1m30s", 90.0)],
    "cache_size": [("0", 0), ("500M", 500 << 20), ("10GiB", 10 << 30), ("1.5k", 1536)],
    "sidecars_size": [("0", 0), ("1M", 1 << 20), ("2GiB", 2 << 30), ("3k", 3072)],
    "log_size": [("0", 0), ("1M", 1 << 20), ("2k", 2048), ("7", 7)],
    "log_keep": [("0", 0), ("1", 1), ("9", 9), ("99", 99)],
    "log_level": [(level, level) for level in ("debug", "warning", "error", "info")],
    "max_egress": [
        ("5G/day", MostEgress(5 << 30, 86400.0)),
        ("1.5k/1h", MostEgress(1536, 3600.0)),
        ("0", None),
        ("7M", MostEgress(7 << 20, 86400.0)),
    ],
    "warn_egress": [
        ("1G/day", MostEgress(1 << 30, 86400.0)),
        ("2M/week", MostEgress(2 << 20, 7 * 86400.0)),
        ("0", None),
        ("3M", MostEgress(3 << 20, 86400.0)),
    ],
    "on_term": [(how, how) for how in ("leave", "unmount", "leave", "unmount")],
    "crowd": [("", ""), ("a:b", "a:b"), ("c", "c"), ("a", "a")],
    "log_format": [(form, form) for form in ("json", "text", "json", "text")],
}
PLAIN = [option for option in OPTIONS if option.name != "credentials"]
BY_NAME = {option.name: option for option in OPTIONS}


def settings(
    arguments: dict[str, str] | None = None,
    mount_options: dict[str, str] | None = None,
    environ: dict[str, str] | None = None,
    file: dict[str, str] | None = None,
) -> Settings:
    return resolve(
        arguments=arguments or {},
        mount_options=mount_options or {},
        environ=environ or {},
        file=file or {},
    )


def one_line(error: pytest.ExceptionInfo[ConfigurationError]) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    assert SECRET not in text
    return text


# the table -------------------------------------------------------------------------------------


def test_every_option_is_a_setting_and_every_setting_an_option() -> None:
    names = [option.name for option in OPTIONS]
    others = {"account_hint"}  # made where the sources are merged
    assert sorted(names) == sorted({field.name for field in fields(Settings)} - others)
    assert len(set(names)) == len(names)
    assert not set(names) & IGNORED_MOUNT_OPTIONS
    assert set(VALUES) | {"credentials"} == set(names)
    assert all(option.help for option in OPTIONS)


def test_every_default_is_described() -> None:
    described = describe()
    assert set(described) == set(BY_NAME)
    assert described["refresh"] == "60s"
    assert (described["memory"], described["read_ahead"]) == ("256M", "1M")
    assert described["cache_size"] == "10G"
    assert described["region"] == "eu"
    assert described["password"] == ""


@pytest.mark.parametrize("option", PLAIN, ids=lambda option: option.name)
def test_a_default_is_what_its_own_reader_would_read(option: Option) -> None:
    default = getattr(Settings(), option.name)
    if default is not None and option.name != "umask":
        assert option.read(describe()[option.name]) == default


# precedence ------------------------------------------------------------------------------------


def sources_of(option: Option) -> list[str]:
    names = [] if option.secret else ["arguments", "mount_options"]
    return [*names, *(["environ"] if option.env else []), "file"]


@pytest.mark.parametrize("option", PLAIN, ids=lambda option: option.name)
@given(data=st.data())
def test_the_nearest_source_wins(option: Option, data: st.DataObject) -> None:
    sources = sources_of(option)
    used = [s for s in sources if data.draw(st.booleans(), label=s)]
    layers: dict[str, dict[str, str]] = {}
    for source in used:
        key = option.env if source == "environ" and option.env else option.name
        layers[source] = {key: VALUES[option.name][sources.index(source)][0]}
    found = getattr(settings(**layers), option.name)
    if not used:
        assert found == getattr(Settings(), option.name)
    else:
        assert found == VALUES[option.name][sources.index(used[0])][1]


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.env], ids=lambda option: option.name)
def test_an_empty_variable_is_none(option: Option) -> None:
    assert option.env is not None
    assert settings(environ={option.env: ""}) == Settings()


def test_a_variable_of_another_program_is_none() -> None:
    assert settings(environ={"UP42_CACHE_SIZE": "rubbish", "REFRESH": "3"}) == Settings()


def test_addresses_come_from_the_region_unless_given() -> None:
    assert (settings().api, settings().auth) == REGIONS["eu"]
    assert settings({"region": "sa"}).api == REGIONS["sa"][0]
    own = settings({"api_url": "http://localhost:1/", "region": "sa"})
    assert own.api == "http://localhost:1"
    assert own.auth == REGIONS["sa"][1]


# -o --------------------------------------------------------------------------------------------


def test_mount_options_are_split_at_commas() -> None:
    assert parse_mount_options("ro,uid=5, refresh=30 ,allow_other,,") == {
        "ro": "",
        "uid": "5",
        "refresh": "30",
        "allow_other": "",
    }
    assert parse_mount_options("") == {}


def test_a_backslash_keeps_a_comma() -> None:
    parsed = parse_mount_options(r"cache_dir=/a\,b\,c,workspace=x=y")
    assert parsed == {"cache_dir": "/a,b,c", "workspace": "x=y"}


values = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\\", exclude_categories=("Cc", "Z"))
)


@given(
    st.dictionaries(st.sampled_from([o.name for o in OPTIONS if not o.secret]), values, min_size=1)
)
def test_every_value_comes_back(wanted: dict[str, str]) -> None:
    text = ",".join(f"{name}={value.replace(',', chr(92) + ',')}" for name, value in wanted.items())
    assert parse_mount_options(text) == wanted


def test_a_dash_is_an_underscore() -> None:
    assert parse_mount_options("read-ahead=4,allow-other") == {"read_ahead": "4", "allow_other": ""}


@pytest.mark.parametrize("name", sorted(IGNORED_MOUNT_OPTIONS))
def test_standard_options_change_nothing(name: str) -> None:
    assert parse_mount_options(f"{name},uid=1,{name}=x") == {"uid": "1"}


def test_options_of_systemd_and_userspace_change_nothing() -> None:
    assert parse_mount_options("x-systemd.automount,x-gvfs-show,x-systemd.idle-timeout=60") == {}


def test_a_comment_changes_nothing() -> None:
    assert parse_mount_options("comment=x=y,uid=1,owner,group,lazytime,X-a.b=c") == {"uid": "1"}


def test_the_sloppy_leave_out_what_is_unknown_and_nothing_else() -> None:
    assert parse_mount_options("fscache,uid=1,vers=4", is_sloppy=True) == {"uid": "1"}
    with pytest.raises(ConfigurationError):
        parse_mount_options(f"password={SECRET}", is_sloppy=True)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_mount_options("ro,refrehs=3")
    assert "refrehs" in one_line(error)
    assert "up42fs mount --help" in str(error.value)


@pytest.mark.parametrize(
    "text", ["password={}", "ro,password={},uid=1", " password={}", "password"]
)
def test_a_password_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_mount_options(text.format(SECRET))
    message = one_line(error)
    assert "UP42_PASSWORD" in message
    assert "--credentials" in message


@pytest.mark.parametrize("option", [o for o in PLAIN if not o.secret], ids=lambda o: o.name)
def test_an_option_without_its_value_is_refused(option: Option) -> None:
    if option.flag:
        assert settings(mount_options=parse_mount_options(option.name))
        assert getattr(settings(mount_options=parse_mount_options(option.name)), option.name)
        return
    with pytest.raises(ConfigurationError, match=f"{option.name} needs a value"):
        parse_mount_options(option.name)


# refusals --------------------------------------------------------------------------------------

REFUSED = {
    "region": ["", "us", "EU"],
    "ro": ["maybe", "2"],
    "rw": ["maybe"],
    "allow_other": ["maybe"],
    "archives": ["", "ON", "yes"],
    "orders": ["", "ALL", "none"],
    "names": ["", "ID", "tag"],
    "nonempty": ["maybe"],
    "credentials": [""],
    "cache_dir": [""],
    "log_file": [""],
    "uid": ["", "root", "-1", "1.5", str((1 << 32) - 1), str(1 << 40), "9" * 5000],
    "gid": ["wheel", "-1", str((1 << 32) - 1)],
    "umask": ["", "8", "1000", "-1", "rwx"],
    "refresh": ["", "0", "-1", "nan", "inf", "soon"],
    "memory": ["", "15", "0", "-1", "lots"],
    "read_ahead": ["", "-1", "x"],
    "cache_size": ["", "-1", "-5G", "10X", "G", "inf", "infG", "nan", "nanG", "1e400", "1e300T"],
    "log_level": ["", "INFO", "trace"],
    "log_format": ["", "JSON", "xml"],
    "max_egress": ["", "/day", "5G/fortnight", "many", "-1G/day", "5G/Day"],
}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in REFUSED.items() for text in texts]
)
@pytest.mark.parametrize(
    ("source", "shown"),
    [("arguments", "--{}"), ("mount_options", "-o {}"), ("file", "{}")],
)
def test_a_value_that_will_not_do_is_refused(name: str, text: str, source: str, shown: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        settings(**{source: {name: text}})
    message = one_line(error)
    option = name.replace("_", "-") if source == "arguments" else name
    assert message.startswith(shown.format(option) + ": ")
    assert len(message) < 200
    reason = message.partition(" will not do: ")[2]
    assert reason
    assert not any(jargon in reason for jargon in ("literal", "convert", "base "))


def test_a_refused_variable_is_called_by_its_name() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^UP42_REGION: 'mars' will not do: one of eu, sa"
    ):
        settings(environ={"UP42_REGION": "mars"})


@given(st.sampled_from([o for o in OPTIONS if o.name != "credentials"]), st.text())
def test_no_text_makes_a_reader_fail_otherwise(option: Option, text: str) -> None:
    with suppress(ConfigurationError):
        found = settings(arguments={option.name: text})
        assert getattr(found, option.name) is not None


def test_a_home_that_nobody_has_is_no_crash() -> None:
    found = settings(arguments={"log_file": "~nobody-of-that-name/x.log"})
    assert found.log_file is not None
    assert found.log_file.is_absolute()


# the file --------------------------------------------------------------------------------------


def written(directory: Path, text: str) -> Path:
    path = directory / "config.toml"
    path.write_text(text)
    return path


def test_the_file_speaks_toml(tmp_path: Path) -> None:
    path = written(
        tmp_path, 'region = "sa"\nrefresh = 30\nallow_other = true\nro = false\nmemory = 64\n'
    )
    found = settings(file=load_file(path, must_exist=True))
    assert (found.region, found.refresh, found.memory) == ("sa", 30.0, 64)
    assert (found.allow_other, found.ro) == (True, False)


def test_a_missing_file_matters_only_if_it_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert load_file(path, must_exist=False) == {}
    with pytest.raises(ConfigurationError, match=r"none.toml does not exist"):
        load_file(path, must_exist=True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("refesh = 3\n", "unknown setting 'refesh'"),
        ("[mount]\nrefresh = 3\n", "unknown setting 'mount'"),
        ("refresh = \n", "cannot be read"),
        ("= 3", "cannot be read"),
        (f'password = "{SECRET}\n', "cannot be read"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as error:
        load_file(path, must_exist=False)
    assert why in one_line(error)
    assert str(path) in str(error.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_file(path, must_exist=False)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_file(tmp_path, must_exist=False)


def test_a_file_of_wrong_types_is_refused(tmp_path: Path) -> None:
    file = load_file(written(tmp_path, "refresh = [1, 2]\n"), must_exist=True)
    with pytest.raises(ConfigurationError, match=r"^refresh: '\[1, 2\]' will not do"):
        settings(file=file)


def test_where_the_file_lies(tmp_path: Path) -> None:
    assert default_file({"XDG_CONFIG_HOME": "/etc/xdg"}) == Path("/etc/xdg/up42fs/config.toml")
    expected = tmp_path / ".config" / "up42fs" / "config.toml"
    home = {"HOME": str(tmp_path)}
    assert default_file(home) == default_file(home | {"XDG_CONFIG_HOME": ""}) == expected
    assert default_file(home | {"XDG_CONFIG_HOME": "relative"}) == expected


# the credentials file --------------------------------------------------------------------------


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"username": "filed", "password": SECRET, "more": 1}))
    path.chmod(0o600)
    return path


ACCOUNT = {"UP42_USERNAME": "env", "UP42_PASSWORD": "env-password"}


def test_a_credentials_file_gives_both(credentials: Path) -> None:
    found = settings(arguments={"credentials": str(credentials)})
    assert (found.username, found.password) == ("filed", SECRET)


@pytest.mark.parametrize("source", ["arguments", "mount_options"])
def test_a_named_credentials_file_beats_the_environment(credentials: Path, source: str) -> None:
    found = settings(environ=ACCOUNT, **{source: {"credentials": str(credentials)}})
    assert (found.username, found.password) == ("filed", SECRET)


def test_the_environment_beats_a_credentials_file_of_the_settings_file(credentials: Path) -> None:
    found = settings(environ=ACCOUNT, file={"credentials": str(credentials)})
    assert (found.username, found.password) == ("env", "env-password")


def test_half_an_account_is_never_mixed_with_the_files(credentials: Path) -> None:
    for half in ({"UP42_USERNAME": "env"}, {"UP42_PASSWORD": "env-password"}):
        found = settings(environ=half, file={"credentials": str(credentials)})
        assert (found.username, found.password) == ("filed", SECRET)


def test_a_credentials_file_that_is_not_needed_is_not_read(tmp_path: Path) -> None:
    found = settings(environ=ACCOUNT, file={"credentials": str(tmp_path / "none.json")})
    assert found.username == "env"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        json.dumps({"username": "me"}),
        json.dumps({"password": SECRET}),
        json.dumps({"username": None, "password": SECRET}),
        json.dumps({"username": "me", "password": None}),
        f'{{"username": "me", "password": "{SECRET}"',
        f"username=me password={SECRET}",
        "[" * 100_000,
    ],
)
def test_a_credentials_file_that_will_not_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        settings(arguments={"credentials": str(path)})
    assert str(path) in one_line(error)
    assert '{"username": …, "password": …}' in str(error.value)
    assert "object has no" not in str(error.value)


def test_a_credentials_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"^{tmp_path} cannot be read: Is a directory$"):
        settings(arguments={"credentials": str(tmp_path)})
    missing = tmp_path / "none.json"
    with pytest.raises(ConfigurationError, match=f"^{missing} does not exist$"):
        settings(arguments={"credentials": str(missing)})


@pytest.mark.parametrize("name", ["username", "password", "workspace", "api_url", "auth_url"])
def test_what_is_sent_to_up42_is_text(name: str) -> None:
    bad = {f"UP42_{name.upper()}": f"{SECRET}\udcf6"}  # as a byte of another encoding is read
    with pytest.raises(ConfigurationError, match=f"^the {name} is not in the encoding") as error:
        settings(environ=ACCOUNT | bad)
    assert SECRET not in one_line(error)


@pytest.mark.claim("S142")
@pytest.mark.parametrize("name", ["username", "password", "workspace", "api_url", "auth_url"])
def test_what_is_sent_to_up42_is_not_endless(name: str) -> None:
    """From a file or a keyring, too: the environment has limits of its own."""
    fine: dict[str, Any] = {name: "x" * 4096}
    long: dict[str, Any] = {name: "x" * 5_000_000}
    assert getattr(Settings(**fine), name) == "x" * 4096
    with pytest.raises(ConfigurationError, match=f"^the {name} has 5000000 characters") as error:
        replace(Settings(), **long)
    assert "xx" not in one_line(error)


@pytest.mark.claim("S195")
def test_the_cure_of_a_file_that_is_open_can_be_pasted(credentials: Path, tmp_path: Path) -> None:
    place = credentials.rename(tmp_path / "my 'account'.json")
    place.chmod(0o644)
    with pytest.raises(ConfigurationError) as error:
        settings(arguments={"credentials": str(place)})
    cure = str(error.value).partition("run: ")[2]
    subprocess.run(["sh", "-c", cure], check=True)
    assert place.stat().st_mode & 0o777 == 0o600


@pytest.mark.claim("S103")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o666])
def test_a_credentials_file_that_others_may_read_is_refused(credentials: Path, mode: int) -> None:
    credentials.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {credentials}$") as error:
        settings(arguments={"credentials": str(credentials)})
    assert "other users may read it" in one_line(error)
    credentials.chmod(0o400)
    assert settings(arguments={"credentials": str(credentials)}).password == SECRET


@pytest.mark.claim("S103")
def test_a_settings_file_with_a_password_is_its_owners_alone(tmp_path: Path) -> None:
    path = written(tmp_path, f'username = "me"\npassword = "{SECRET}"\n')
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600") as error:
        load_file(path, must_exist=True)
    one_line(error)
    path.chmod(0o600)
    assert load_file(path, must_exist=True)["password"] == SECRET
    assert load_file(written(tmp_path, "refresh = 3\n"), must_exist=True) == {"refresh": "3"}


@given(mode=st.integers(0, 0o777), is_mine=st.booleans())
def test_whose_a_secret_may_be(mode: int, is_mine: bool) -> None:
    """The owner chooses a group: systemd and Kubernetes hand over secrets of root in that way."""
    owner = os.geteuid() if is_mine else os.geteuid() + 1

    def found(kind: int) -> os.stat_result:
        return os.stat_result((kind | mode, 1, 1, 1, owner, 0, 9, 0, 0, 0))

    assert is_open_to_others(found(stat.S_IFREG)) == bool(mode & (0o077 if is_mine else 0o007))
    assert not is_open_to_others(found(stat.S_IFIFO))


def test_a_pipe_is_a_credentials_file_too() -> None:
    """As in `--credentials <(pass show up42)`."""
    receive, send = os.pipe()
    os.write(send, json.dumps({"username": "piped", "password": SECRET}).encode())
    os.close(send)
    try:
        found = settings(arguments={"credentials": f"/dev/fd/{receive}"})
    finally:
        os.close(receive)
    assert (found.username, found.password) == ("piped", SECRET)


def test_a_credentials_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        settings(arguments={"credentials": str(tmp_path / "none.json")})
    assert "none.json" in one_line(error)


# secrets ---------------------------------------------------------------------------------------


def test_a_secret_is_in_no_repr(credentials: Path) -> None:
    for found in (
        settings(environ={"UP42_USERNAME": "me", "UP42_PASSWORD": SECRET}),
        settings(file={"username": "me", "password": SECRET}),
        settings(arguments={"credentials": str(credentials)}),
    ):
        assert found.password == SECRET
        assert SECRET not in repr(found)
        assert SECRET not in str(found)
        assert SECRET not in f"{found!a}"


def test_the_owner_shown_is_the_user_who_mounts() -> None:
    assert (settings().uid, settings().gid) == (os.getuid(), os.getgid())


@pytest.mark.parametrize(
    ("arguments", "mount_options", "file", "writable"),
    [
        ({}, {}, {}, False),
        ({}, {"rw": ""}, {}, True),
        ({}, {"edit": ""}, {}, True),
        ({}, {"ro": "", "rw": ""}, {}, False),
        ({}, {"ro": "no"}, {}, True),
        ({"ro": "yes"}, {"rw": ""}, {}, False),
        ({}, {"rw": ""}, {"ro": "true"}, True),
        ({}, {"ro": ""}, {"rw": "true"}, False),
        ({}, {"rw": "no"}, {}, False),
    ],
)
def test_of_ro_and_rw_the_higher_source_decides(arguments, mount_options, file, writable) -> None:
    found = settings(arguments, mount_options, None, file)
    assert (found.rw, found.ro) == (writable, not writable)
