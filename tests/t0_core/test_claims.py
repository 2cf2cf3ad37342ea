"""Each claim of docs/semantics.md has tests that bear its number, and no test bears another one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def claimed() -> list[str]:
    """The numbers in the document, in its order."""
    text = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    section = text.partition("\n## Claims\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (S\d+) \| \S", section, re.MULTILINE)


def proved() -> dict[str, list[str]]:
    """The tests that bear each number."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for number in numbers(node):
                    found.setdefault(number, []).append(f"{path.name}::{node.name}")
    return found


def numbers(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    marks = [
        decorator
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.claim"
    ]
    return [str(ast.literal_eval(argument)) for mark in marks for argument in mark.args]


def test_numbers_are_given_once() -> None:
    assert len(claimed()) >= 80
    assert len(claimed()) == len(set(claimed()))


def test_every_claim_has_a_test() -> None:
    assert sorted(set(claimed()) - proved().keys()) == []


def test_every_mark_is_of_a_claim_and_on_a_test() -> None:
    assert sorted(proved().keys() - set(claimed())) == []
    for tests in proved().values():
        assert all(test.partition("::")[2].startswith("test_") for test in tests)
