"""What CI makes of failures: `contrib/rerun.py` and `.ci/run`, with stand-ins for the tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "contrib"))
import rerun  # noqa: E402

#: A pytest that fails as PLAN says: names and how often each fails; notes each call in CALLS.
FAKE = """
import json, pathlib, sys
here = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
cache = pathlib.Path(arguments[arguments.index("-o") + 1].removeprefix("cache_dir="))
plan = json.loads((here / "plan").read_text())
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
if "status" in plan:
    sys.exit(plan["status"])
names = [name for name in plan if name in arguments] or list(plan)
failed = {name: True for name in names if plan[name] > 0}
(here / "plan").write_text(json.dumps({n: left - (n in names) for n, left in plan.items()}))
(cache / "v/cache").mkdir(parents=True, exist_ok=True)
(cache / "v/cache/lastfailed").write_text(json.dumps(failed))
sys.exit(1 if failed else 0)
"""
TELL_PROFILE = 'echo "profile $UP42FS_TEST_PROFILE"'
NAMES = [f"tests/t4_mount/test_x.py::test_of[a b-ü-{number}]" for number in range(6)]


def outcome(place: Path, plan: dict[str, int]) -> tuple[int, list[list[str]], str]:
    """The status, the arguments of each call of pytest, and the notes."""
    (place / "fake.py").write_text(FAKE)
    (place / "plan").write_text(json.dumps(plan))
    notes = place / "notes"
    notes.touch()
    status = rerun.run((sys.executable, str(place / "fake.py")), notes, ["-n", "3", "tests"])
    calls = [json.loads(line) for line in (place / "calls").read_text().splitlines()]
    return status, calls, notes.read_text()


def test_a_green_run_is_run_once(tmp_path: Path) -> None:
    status, calls, notes = outcome(tmp_path, dict.fromkeys(NAMES, 0))
    assert (status, len(calls), notes) == (0, 1, "")
    assert calls[0][:3] == ["-n", "3", "tests"]


@pytest.mark.parametrize("count", [1, 3])
def test_few_that_pass_alone_are_told(count: int, tmp_path: Path) -> None:
    plan = dict.fromkeys(NAMES, 0) | dict.fromkeys(NAMES[:count], 1)
    status, calls, notes = outcome(tmp_path, plan)
    assert status == 0
    # One by one, without workers, and nothing else of what was asked for first.
    assert [(call[:2], call[-1]) for call in calls[1:]] == [
        (["-n", "0"], name) for name in NAMES[:count]
    ]
    assert notes == f"FAILED, THEN PASSED: {', '.join(NAMES[:count])}\n"


def test_one_that_fails_again_fails_all(tmp_path: Path) -> None:
    status, calls, notes = outcome(tmp_path, {NAMES[0]: 1, NAMES[1]: 2, NAMES[2]: 1})
    assert (status, len(calls), notes) == (1, 4, "")


def test_more_are_not_run_again(tmp_path: Path) -> None:
    status, calls, notes = outcome(tmp_path, dict.fromkeys(NAMES[:6], 1))
    assert (status, len(calls), notes) == (1, 1, "")


@pytest.mark.parametrize("status", [2, 3, 4, 5])
def test_what_is_no_failure_of_a_test_is_not_run_again(status: int, tmp_path: Path) -> None:
    assert outcome(tmp_path, {"status": status})[0] == status
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_with_pytest_itself(tmp_path: Path) -> None:
    """A test that fails the first time; one that fails in its fixture; a worker."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_once.py").write_text(
        "import pathlib, pytest\n"
        "def once(name):\n"
        "    made = pathlib.Path(__file__).with_name(name)\n"
        "    if not made.exists():\n"
        "        made.touch()\n"
        "        raise OSError(name)\n"
        "@pytest.fixture\n"
        "def broken(): once('fixture')\n"
        "@pytest.mark.parametrize('word', ['ä b'])\n"
        "def test_one(word): once('test')\n"
        "def test_two(broken): pass\n"
        "def test_three(): pass\n"
    )
    script = str(ROOT / "contrib/rerun.py")
    done = subprocess.run(
        [sys.executable, script, "notes", "-q", "-n", "1", "test_once.py"],
        cwd=tmp_path,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = (tmp_path / "notes").read_text(encoding="utf-8")
    assert said.startswith("FAILED, THEN PASSED: test_once.py::test_one["), said
    assert said.endswith("], test_once.py::test_two\n"), said


def ci(
    place: Path,
    *arguments: str,
    limit_s: int = 60,
    suite_limit_s: int = 60,
    cut: str = "",
    **scripts: str,
) -> tuple[int, str, str]:
    """Run `.ci/run` with stand-ins for what it calls: shell scripts, which succeed by default.

    Time runs out for the one named `cut`.
    """
    shutil.copytree(ROOT / ".ci", place / ".ci")
    (place / "contrib/site").mkdir(parents=True)
    for name in ("test", "test-elsewhere", "test-wheel", "site/build", "fuzz", "test-lowest"):
        script = place / "contrib" / name
        words = f'#!/bin/sh\necho ran {name} "$@"\n'
        script.write_text(words + scripts.get(name.replace("-", "_"), ""))
        script.chmod(0o755)
    path = "/usr/bin:/bin"
    if cut:
        (place / "timeout").write_text(
            f'#!/bin/sh\nshift 5\ncase $1 in *{cut}) exit 124 ;; esac\nexec "$@"\n'
        )
        (place / "timeout").chmod(0o755)
        path = f"{place}:{path}"
    done = subprocess.run(
        [place / ".ci/run", *arguments],
        env={
            "PATH": path,
            "UP42FS_CI_LIMIT_S": str(limit_s),
            "UP42FS_CI_SUITE_LIMIT_S": str(suite_limit_s),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_ci_runs_everything(tmp_path: Path) -> None:
    status, printed, told = ci(tmp_path)
    assert status == 0, told
    ran = [line.split()[1] for line in printed.splitlines()]
    assert ran == ["test", "test-elsewhere", "test-wheel", "site/build", "fuzz", "test-lowest"]


def test_ci_makes_the_same_examples_each_time(tmp_path: Path) -> None:
    status, printed, _ = ci(tmp_path, test=TELL_PROFILE, test_lowest=TELL_PROFILE)
    assert (status, printed.count("profile same-examples\n")) == (0, 2)
    profile = settings.get_profile("same-examples")
    assert (profile.derandomize, profile.database, profile.deadline) == (True, None, None)


def test_ci_with_arguments_is_the_suite_alone(tmp_path: Path) -> None:
    status, printed, _ = ci(tmp_path, "tests/t0_core", "-q", test="exit 7")
    assert (status, printed) == (7, "ran test tests/t0_core -q\n")


def test_ci_goes_on_after_failures_and_names_them_at_the_end(tmp_path: Path) -> None:
    status, printed, told = ci(tmp_path, test="exit 1", test_wheel="exit 1")
    assert status == 1
    assert len(printed.splitlines()) == 6
    failed = told.partition("FAILED:")[2]
    assert "contrib/test --rerun" in failed
    assert "test-wheel" in failed
    assert "test-elsewhere" not in failed


def test_ci_tells_at_the_end_what_passed_only_alone(tmp_path: Path) -> None:
    status, _, told = ci(tmp_path, test='echo "FAILED, THEN PASSED: a::b" >>"$2"')
    assert status == 0
    assert "\nFAILED, THEN PASSED: a::b\n" in told


def test_ci_without_time_for_a_step_tells_so(tmp_path: Path) -> None:
    status, printed, told = ci(tmp_path, cut="test-elsewhere")
    assert status == 0, told
    assert "test-elsewhere" not in printed
    assert "test-lowest" in printed
    assert "test-elsewhere" in told.partition("NOT RUN TO THE END")[2]


def test_ci_without_time_for_the_suite_fails(tmp_path: Path) -> None:
    status, _, told = ci(tmp_path, suite_limit_s=1, test="exec sleep 30")
    assert status == 1
    assert "contrib/test --rerun" in told.partition("FAILED:")[2]
