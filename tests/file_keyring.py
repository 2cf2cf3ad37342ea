"""A keyring for tests: a JSON file named by TEST_KEYRING; broken where that is a directory.

With TEST_KEYRING_KEEPS=1 it says that it deletes, and does not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError


class FileKeyring(KeyringBackend):
    priority = 1

    @property
    def path(self) -> Path:
        return Path(os.environ["TEST_KEYRING"])

    def load(self) -> dict[str, str]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.load().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self.path.write_text(json.dumps(self.load() | {f"{service}/{username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        entries = self.load()
        if entries.pop(f"{service}/{username}", None) is None:
            raise PasswordDeleteError("no such entry")
        if not os.environ.get("TEST_KEYRING_KEEPS"):
            self.path.write_text(json.dumps(entries))
