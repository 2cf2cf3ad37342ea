"""A status document as Prometheus text: read back by Prometheus' own parser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from up42fs.engine.prometheus import render
from up42fs.visible import visible

STATUS = {
    "version": "0.1.0",
    "api": "https://api.up42.com",
    "mountpoint": "/mnt",
    "mounted_seconds": 61,
    "assets": 31,
    "orders": 8,
    "bytes": 131065824,
    "open": {"open_files": 2, "open_directories": 0, "inodes": 38},
    "store": {"leases": 3, "memory_bytes": 5},
    "disk_cache": None,
    "catalogue": {
        "assets": {"complete": True, "seconds_since_refresh": 0.8},
        "orders": {"complete": False, "seconds_since_refresh": None},
    },
    "counters": {"api.requests": 7, "fuse.errors_EIO": 2, "fuse.errors_ESTALE": 1},
}


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_numbers_arrive_under_their_names() -> None:
    found = parsed(render(STATUS))
    about = (("api", "https://api.up42.com"), ("mountpoint", "/mnt"), ("version", "0.1.0"))
    assert found == {
        ("up42fs_info", about): 1,
        ("up42fs_mounted_seconds", ()): 61,
        ("up42fs_assets", ()): 31,
        ("up42fs_orders", ()): 8,
        ("up42fs_storage_bytes", ()): 131065824,
        ("up42fs_open_files", ()): 2,
        ("up42fs_open_directories", ()): 0,
        ("up42fs_inodes", ()): 38,
        ("up42fs_leases", ()): 3,
        ("up42fs_memory_bytes", ()): 5,
        ("up42fs_refreshed_seconds", (("listing", "assets"),)): 0.8,
        ("up42fs_listing_complete", (("listing", "assets"),)): 1,
        ("up42fs_listing_complete", (("listing", "orders"),)): 0,
        ("up42fs_errors_total", (("errno", "EIO"),)): 2,
        ("up42fs_errors_total", (("errno", "ESTALE"),)): 1,
        ("up42fs_api_requests_total", ()): 7,
    }


def test_types_are_told() -> None:
    types = {f.name: f.type for f in text_string_to_metric_families(render(STATUS))}
    assert types["up42fs_api_requests"] == "counter"
    assert types["up42fs_assets"] == "gauge"


@given(
    place=st.text(st.characters(codec="utf-8")),
    counts=st.dictionaries(
        st.from_regex(r"[a-z]+\.[a-z_]+", fullmatch=True), st.integers(0, 1 << 50), max_size=5
    ),
)
def test_whatever_the_document_says_it_parses(place: str, counts: dict[str, int]) -> None:
    found = parsed(render(STATUS | {"mountpoint": place, "counters": counts}))
    labels = [dict(key[1]) for key in found if key[0] == "up42fs_info"]
    # The parser splits at every line end Python knows; only "\n" ends a line of the format.
    if place.splitlines() in ([], [place]):
        assert labels[0]["mountpoint"] == visible(place, keep="\n")
    for name, count in counts.items():
        if not name.startswith("fuse.errors_"):
            assert found[(f"up42fs_{name.replace('.', '_')}_total", ())] == count
