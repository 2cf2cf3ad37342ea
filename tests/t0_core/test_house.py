"""How the package is built: names that tell classes apart, functions that do something."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import up42fs

ROOT = Path(up42fs.__file__).parent


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_bytes())) for path in sorted(ROOT.rglob("*.py"))]


def test_no_two_classes_have_one_name() -> None:
    """A traceback, a search and a sentence name a class without its module."""
    found = defaultdict(list)
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(found) > 500
    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert not twice
