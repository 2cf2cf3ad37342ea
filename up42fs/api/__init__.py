"""UP42 over HTTP: sign-in, orders, assets, links, STAC. Knows JSON, nothing of files."""

import sys

# Where rich and click are installed, httpx loads the command line tool that it also is: a tenth of
# what a mount takes to start.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
