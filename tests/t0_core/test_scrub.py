"""Names taken out of a support bundle."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from up42fs.doctor.scrub import LEAST_CHARACTERS, Scrubber, known

ID = "8cbdc4c2-6681-5e0c-9d5d-3c53adb989d1"
#: Names as people give them: with a word of their own, which no line of ours has.
own = st.text("xyzäöü12", min_size=LEAST_CHARACTERS, max_size=8).map("zq".__add__)
between = st.sampled_from([" ", "_", "-", ".", ": ", " (", "' ", "\\", "  "])
names = st.builds(
    lambda words, joints: "".join(w + j for w, j in zip(words, joints, strict=False)).strip(),
    st.lists(own, min_size=1, max_size=4),
    st.lists(between, min_size=4, max_size=4),
)
LINES = (
    "2026-11-30 04:18:27,598 WARNING up42fs.fuse.boundary: read: {} (asset {}): refused (EACCES)\n",
    "<4>up42fs.fuse.boundary: {} (asset {}): refused\n",
    "2026-11-30 04:18:27,598 INFO up42fs.fs.crowd: {} (file {}): tracker may read heads only\n",
    "    up42fs.errors.AccessDenied: {} (asset {}): refused\n",
    '{{"level": "warning", "message": "read: {} (asset {}): refused"}}\n',
)


@given(names, st.sampled_from(LINES))
@example("zqxxx:", LINES[1])
@example("zqx: zqy", LINES[1])
def test_a_label_hides_its_name_though_nobody_knows_it(name: str, line: str) -> None:
    if line.startswith("{"):
        name = json.dumps(name)[1:-1]
    made = Scrubber({}).log(line.format(name, ID))
    assert name not in made
    assert not [word for word in name.split() if word.startswith("zq") and word in made]
    assert ID in made
    assert "refused" in made or "heads only" in made


@given(names, st.text(" .,:/\"'()[]", max_size=3), st.text(" .,:/\"'()[]", max_size=3))
def test_known_names_are_found_anywhere(name: str, before: str, after: str) -> None:
    assume(len(name) >= LEAST_CHARACTERS)
    scrubber = Scrubber(known([name]))
    for form in (name, name.upper() if name.upper().lower() == name.lower() else name, quote(name)):
        made = scrubber.text(f"looking at {before}{form}{after} again")
        assert form not in made
        assert made.startswith("looking at ")
        assert made.endswith(" again")


@given(st.text(), st.lists(names, max_size=3))
def test_no_text_makes_it_raise_and_what_is_known_is_gone(text: str, hidden: list[str]) -> None:
    scrubber = Scrubber(known(hidden))
    scrubber.log(text)
    scrubber.message(text)


@pytest.mark.parametrize("text", ["", "no name here", f"asset {ID}: 403", "took 3.5 s of 12"])
def test_what_is_no_name_stays(text: str) -> None:
    assert Scrubber(known(["scene.tif", "Berlin"])).message(text) == text


def test_quoted_names_go_and_numbers_stay() -> None:
    made = Scrubber({}).log(
        f"INFO up42fs.x: asset '{ID}': no path can hold 'two words.zip': '12'\n"
    )
    assert "two words" not in made
    assert ID in made
    assert "'12'" in made


@pytest.mark.parametrize(
    "url", ["http://me:secret@proxy:3128", "https://me@proxy/x", "http://a@b:c@proxy"]
)
def test_users_of_urls_go(url: str) -> None:
    made = Scrubber({}).text(f"through {url}!")
    assert "proxy" in made
    for part in ("me", "secret", "a@b"):
        assert part not in made.replace("redacted", "")


def test_many_names_cost_little() -> None:
    hidden = {f"scene number {n} of many.tif": "<name>" for n in range(10_000)}
    text = "scene number 77 of many.tif was read, scene by scene; scene number 9 too\n" * 200
    made = Scrubber(hidden).text(text)
    assert "77" not in made
    assert made.count("<name>") == 200
