"""The prose names a subject first: hardly a sentence opens with "What is …" or "Who waits …".

Such a sentence (a fused relative: "What is cached can be read offline") hides its subject, and a
reader takes it for a question first. Pages and docstrings are counted, questions are not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_SHARE = 0.01
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [path for name in ("up42fs", "contrib") for path in sorted((ROOT / name).rglob("*.py"))]

_FUSED = re.compile(r"(?:Who|What|Whoever|Whatever|Where)\b(?!.*\?$)")
_END = re.compile(r"(?<=[.!?:;])\s+")
#: What may stand before the first word of a line: marks of lists, numbers, emphasis.
_MARKS = re.compile(r"^\s*(?:[-*+]\s+|\d+\.\s+)?[*_]*")
#: A line that ends what stood before it: a blank one, a list's, a heading, a row, a quotation.
_BREAKS = re.compile(r"\s*(?:$|[-*+]\s|\d+\.\s|#|\||>)")
#: Fewer words are a name or a heading.
_LEAST_WORDS = 3


def sentences(text: str) -> Iterator[str]:
    """The sentences of running text: no headings, tables or blocks of code."""
    text = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)
    paragraphs: list[list[str]] = [[]]
    for line in text.splitlines():
        if _BREAKS.match(line):
            paragraphs.append([])
        if line.strip() and not line.lstrip().startswith(("#", "|", "<!--")):
            paragraphs[-1].append(_MARKS.sub("", line) if not paragraphs[-1] else line)
    for lines in paragraphs:
        for sentence in _END.split(" ".join(line.strip() for line in lines)):
            if len(sentence.split()) >= _LEAST_WORDS:
                yield sentence


def docstrings(path: Path) -> Iterator[str]:
    """All docstrings of a module."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield text


def prose() -> Iterator[tuple[Path, str]]:
    """Each sentence of the project, and the file in which it stands."""
    for path in PAGES:
        for sentence in sentences(path.read_text(encoding="utf-8")):
            yield path.relative_to(ROOT), sentence
    for path in MODULES:
        for text in docstrings(path):
            for sentence in sentences(text):
                yield path.relative_to(ROOT), sentence


def test_hardly_a_sentence_opens_with_a_fused_relative() -> None:
    counted = list(prose())
    fused = [f"{path}: {text[:120]}" for path, text in counted if _FUSED.match(text)]
    share = len(fused) / len(counted)
    assert len(counted) > 5000
    assert share < MOST_SHARE, (
        f"{share:.1%} of {len(counted)} sentences open with Who, What or Where; name the subject"
        " first:\n" + "\n".join(fused)
    )


@pytest.mark.parametrize(
    "text",
    [
        "What is cached can be read offline.",
        "It is kept. Who waits for it gets the error.",
        "Two rules hold: What is older wins.",
        "- **Whatever happens**, the mount goes on.",
        "It is kept.\n\nWhere nothing is known, the call waits.",
        "1. Whoever opens it first pays for it.",
        "A title\nWhere it goes on; Where two clash, the older one wins.",
    ],
)
def test_fused_relatives_are_found(text: str) -> None:
    assert any(_FUSED.match(sentence) for sentence in sentences(text))


@pytest.mark.parametrize(
    "text",
    [
        "If it is cached, you can read what it holds offline.",
        "What does it cost?",
        "## What was tried, and how",
        "| What | Where it is found |",
        "```\nWhat is this\n```",
        "The program that waits learns where it failed.",
        "Whole files, whatever they hold, are read.",
    ],
)
def test_other_sentences_are_not(text: str) -> None:
    assert not any(_FUSED.match(sentence) for sentence in sentences(text))
