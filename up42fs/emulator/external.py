"""Links to another object store: nginx, for measurements that need its speed.

The store serves the files of the `--data` directory under their relative paths and checks the links
itself, by its `secure_link` module (ngx_http_secure_link_module):

    secure_link $arg_Signature,$arg_Expires;
    secure_link_md5 "$secure_link_expires$uri SECRET";

`$secure_link` is then empty for a forged link and 0 for an expired one. Knows nothing of HTTP.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from up42fs.emulator.links import SIGNER

#: The variable with the secret, which is not an argument because every user can see arguments.
SECRET_ENV = "UP42_EMULATOR_STORE_SECRET"  # noqa: S105  (a name)


@dataclass(frozen=True, slots=True)
class ExternalStore:
    """The store at `url`: it serves the files below `root`; `secret` signs its links."""

    url: str
    root: Path
    secret: str = field(repr=False)

    def link(self, path: Path, expires_at_s: float) -> str:
        """Return a link to the file `path` that expires at `expires_at_s` (Unix seconds).

        Raises ValueError if the file does not lie below the root.
        """
        uri = f"/{path.relative_to(self.root).as_posix()}"
        expires = str(int(expires_at_s))
        material = f"{expires}{uri} {self.secret}".encode()
        digest = hashlib.md5(material, usedforsecurity=False).digest()
        signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        query = f"GoogleAccessId={SIGNER}&Expires={expires}&Signature={signature}"
        return f"{self.url}{quote(uri)}?{query}"
