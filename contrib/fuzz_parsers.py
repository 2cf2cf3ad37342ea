#!/usr/bin/env python3
"""A coverage-guided fuzzer (atheris) over all that parses what others made.

    fuzz_parsers.py [TARGET…] [--seconds 60] [--corpus DIR] [--same-inputs COUNT]

Each target runs in a process of its own for so many seconds, from its seeds and the corpus, as many
at a time as there are cores. What it found is in DIR/TARGET, and the input that broke something in
DIR/TARGET-crash-…; the exit status is 1 then. `--list` names the targets.

With `--same-inputs` a target ends after so many inputs instead, and they are the same in each run:
for CI, where a new finding has to be of the change that CI looks at.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ONE = "--one"


def main() -> int:
    from fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="those only")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--corpus", type=Path, help="where inputs are kept between runs")
    parser.add_argument("--same-inputs", type=int, metavar="COUNT", help="so many, not by time")
    parser.add_argument("--list", action="store_true", help="only name the targets")
    options = parser.parse_args()
    if options.list:
        print("\n".join(TARGETS))
        return 0
    unknown = set(options.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="fuzz-"))
    names = options.targets or list(TARGETS)
    with ThreadPoolExecutor(os.cpu_count()) as crew:
        until = _until(options.seconds, options.same_inputs)
        run = crew.map(lambda name: _runs(name, corpus, until), names)
        broken = [name for name, is_whole in zip(names, run, strict=True) if not is_whole]
    print(f"corpus: {corpus}; broken: {', '.join(broken) or 'none'}")
    if options.corpus is None and not broken:
        shutil.rmtree(corpus)
    return 1 if broken else 0


def _until(seconds: int, same_inputs: int | None) -> list[str]:
    """libFuzzer's options that say when a target ends."""
    if same_inputs is None:
        return [f"-max_total_time={seconds}", "-timeout=10"]
    # A machine that others load may stop for long; a target that never ends is found all the same.
    return [f"-runs={same_inputs}", "-seed=1", "-timeout=60"]


def _runs(name: str, corpus: Path, until: list[str]) -> bool:
    print(f"{name}: {' '.join(until)}", flush=True)
    command = [sys.executable, __file__, ONE, name, str(corpus), *until]
    # The order of a set is the order in which a fuzzer sees its effects.
    own = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, env=own)
    if done.returncode:
        print(f"{name}:\n{done.stderr[-3000:]}", flush=True)
    return done.returncode == 0


def _fuzz(name: str, corpus: Path, until: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["up42fs"]):
        from fuzz_targets import SEEDS, TARGETS
    own = corpus / name
    own.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS.get(name, ())):
        (own / f"seed-{number}").write_bytes(seed)
    arguments = [
        sys.argv[0], str(own), *until, "-max_len=4096", "-rss_limit_mb=1024",
        f"-artifact_prefix={corpus}/{name}-",
    ]  # fmt: skip
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == [ONE]:
        _fuzz(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    else:
        sys.exit(main())
