"""What other installations of UP42's API do otherwise, as switches of the emulator.

Whatever of it a server does, names, searches, footprints and the items of assets are the same.
"""

from __future__ import annotations

from typing import Any

#: By what strangers' servers were seen to do, or may.
HABITS: dict[str, dict[str, Any]] = {
    "items without order": {"items_without_order": "yes"},
    "some items without order": {"items_without_order": "mixed"},
    "in refused (400)": {"in_refused": 400},
    "in refused (501)": {"in_refused": 501},
    "strict accept": {"strict_accept": True},
    "rows without ID": {"rows_without_id": 2},
    "rows twice": {"rows_twice": 3},
    "total too large": {"total_off": 5},
    "total too small": {"total_off": -2},
    "scope refused": {"scope_refused": True},
    "gateway": {"api_prefix": "/up42", "public_url": "https://api.up42.com"},
    "gateway of another name": {"api_prefix": "/a/b", "public_url": "http://inner.example:81/x"},
    "next links without host": {"next_link": "path", "api_prefix": "/up42"},
    "relative next links": {"next_link": "relative"},
    "next links of a query": {"next_link": "query", "max_page_size": 20},
    "hrefs elsewhere": {"odd_hrefs": "mixed", "href_suffix": "mixed"},
    "collections with files": {"collection_assets": True},
}


def flags(switches: dict[str, Any]) -> list[str]:
    """The switches as flags of `up42fs emulator`."""
    found = []
    for name, value in switches.items():
        flag = f"--{name.replace('_', '-')}"
        found += [flag] if value is True else [f"{flag}={value}"]
    return found
