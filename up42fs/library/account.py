"""The settings of a file system from its arguments, the environment, the file and the login."""

from __future__ import annotations

import os
from collections.abc import Mapping

from up42fs.config import accounts
from up42fs.config import settings as config
from up42fs.config.logins import Logins, default_path
from up42fs.config.settings import Settings

#: A mount's `memory` is that of its whole process. Here it is what the engine may use, so what the
#: process has anyhow is added; the engine takes it off again.
OWN_MIB = 48


def settings_of(arguments: Mapping[str, object | None]) -> Settings:
    """Merge the sources as the commands do; raises ConfigurationError."""
    given = {name: str(value) for name, value in arguments.items() if value is not None}
    if arguments.get("memory") is not None:
        given["memory"] = str(int(str(arguments["memory"])) + OWN_MIB)
    file = config.load_file(config.default_file(os.environ), must_exist=False)
    return accounts.settings_of(
        arguments=given,
        mount_options={},
        environ=os.environ,
        file=file,
        logins=Logins(default_path(os.environ)),
    )
