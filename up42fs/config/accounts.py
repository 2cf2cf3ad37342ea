"""The account that a command means: by name, or the one that is signed in where it goes.

The setting `account` names a login. Its user name, password, servers and workspace then count, and
what sources of lower rank say of those is left out: a variable that was set for another account
must not lead to a mixture of two. A source of higher rank that gives an account itself wins over
the name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from up42fs.config import settings as config
from up42fs.config.logins import Login, Logins
from up42fs.config.options import OPTIONS
from up42fs.config.settings import PLACES, Settings
from up42fs.errors import UsageError

#: The settings that are an account's own: none of them is mixed with a named login's.
_OWN = frozenset({"username", "password", "credentials", *PLACES})
_VARIABLES = {option.env: option.name for option in OPTIONS if option.env}


def settings_of(
    *,
    arguments: Mapping[str, str],
    mount_options: Mapping[str, str],
    environ: Mapping[str, str],
    file: Mapping[str, str],
    logins: Logins,
) -> Settings:
    """Merge all sources and fill in the account; raises ConfigurationError."""
    environment = {_VARIABLES[name]: text for name, text in environ.items() if name in _VARIABLES}
    environment = {name: text for name, text in environment.items() if text}
    layers = [arguments, mount_options, environment, file]
    rank = _rank(layers)
    if rank is None:
        layers = [_without(layer, {"account"}) for layer in layers]
        return logins.complete(_resolved(layers, logins.place()))
    name = layers[rank]["account"]
    login = logins.named(name)
    _require_same(layers[rank], login, name)
    kept = [
        _without(layer, _OWN | ({"workspace"} if lower > rank else set()))
        for lower, layer in enumerate(layers)
    ]
    settings = _resolved(kept, login.servers())
    # The name of the default account is no name of its own: both are one account.
    return replace(logins.filled(settings, login), account=login.name)


def _rank(layers: Sequence[Mapping[str, str]]) -> int | None:
    """The source whose `account` counts; None where a source before it gives an account itself."""
    for rank, layer in enumerate(layers):
        if layer.get("account"):
            return rank
        if not _OWN.isdisjoint(layer):
            return None
    return None


def _require_same(layer: Mapping[str, str], login: Login, name: str) -> None:
    """Raise UsageError where one source names a login and contradicts it."""
    if "credentials" in layer:
        raise UsageError(
            f"both account={name} and credentials are given, and they may be two accounts; "
            "leave one of them out"
        )
    if layer.get("username", login.username).casefold() != login.username.casefold():
        raise UsageError(
            f"the account {name} is {login.username}, and {layer['username']} is given, too; "
            "leave one of them out"
        )
    said = {place: text for place, text in layer.items() if place in PLACES}
    if said and _resolved([said, {}, {}, {}], {}).auth != login.server:
        where = " and ".join(said.values())
        raise UsageError(
            f"the account {name} is signed in at {login.shown_place}, and {where} is given, too; "
            f"leave out the {' and '.join(said)}"
        )


def _resolved(layers: Sequence[Mapping[str, str]], login: Mapping[str, str]) -> Settings:
    arguments, mount_options, environment, file = layers
    environ = {o.env: environment[o.name] for o in OPTIONS if o.env and o.name in environment}
    return config.resolve(
        arguments=arguments,
        mount_options=mount_options,
        environ=environ,
        file=file,
        login=login,
    )


def _without(layer: Mapping[str, str], names: frozenset[str] | set[str]) -> dict[str, str]:
    return {name: text for name, text in layer.items() if name not in names}
