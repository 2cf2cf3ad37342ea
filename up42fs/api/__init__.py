"""UP42 over HTTP: sign-in, orders, assets, links, STAC. Knows JSON, nothing of files."""

import sys

# If rich and click are installed, httpx imports its own command line tool, which takes a tenth of a
# mount's start-up time.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
