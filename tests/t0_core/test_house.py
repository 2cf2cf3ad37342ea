"""How the package is built: names that tell classes apart, imports in one direction."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
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


def imports(name: str, tree: ast.Module, known: set[str]) -> set[str]:
    """The modules of ours that a module names, also in functions and for types alone."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            each = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= each & known or {node.module} & known
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
    return found - {name}


def test_no_two_modules_need_each_other() -> None:
    """You can read the package in one order, and each module without those that use it."""
    trees = {
        ".".join((ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): tree
        for path, tree in modules()
    }
    needs = {name: imports(name, tree, set(trees)) for name, tree in trees.items()}
    assert sum(map(len, needs.values())) > 1000
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the modules
