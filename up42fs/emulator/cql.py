"""CQL2 filters of STAC searches: JSON as UP42's users send it, and the text form of GET.

Pure: takes a filter and the queryable values of one item, returns a truth value. Values are looked
up by the short queryable names (contract §5.6). Unknown operators raise `CqlError`; an empty or
oddly wrapped filter is accepted, as the service does.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from up42fs.emulator.clock import parse_us
from up42fs.emulator.geometry import intersects_box

Values = Mapping[str, Any]


class CqlError(ValueError):
    """A filter that this service does not understand."""


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


#: CQL2's class "advanced comparison operators" and what stands beside it: not part of basic CQL2.
ADVANCED = frozenset(("in", "between", "like", "a_overlaps", "a_contains"))
_KNOWN = frozenset(
    ("isnull", "=", "eq", "<>", "!=", "neq", *_ORDER, "between", "in", "a_overlaps", "a_contains",
     "like", "s_intersects")
)  # fmt: skip


def unwrap(expression: Any) -> dict[str, Any] | None:
    """Return the operator object in `expression`, which old SDKs wrap; None if there is none."""
    while isinstance(expression, dict) and "op" not in expression:
        expression = expression.get("filter")
    return expression if isinstance(expression, dict) else None


def holds(expression: dict[str, Any], values: Values) -> bool:
    """Evaluate a CQL2-JSON operator object; raises `CqlError`."""
    name, args = str(expression.get("op", "")).lower(), expression.get("args")
    if not isinstance(args, list) or not args:
        raise CqlError(f"operator {name!r} without args")
    if name == "and":
        return all(holds(part, values) for part in args)
    if name == "or":
        return any(holds(part, values) for part in args)
    if name == "not":
        return not holds(args[0], values)
    return _compare(name, [_value(arg, values) for arg in args])


def equal_to(expression: dict[str, Any], name: str) -> str | None:
    """Return the text that `expression` requires property `name` to equal; None unless obvious."""
    operands = expression.get("args")
    if not isinstance(operands, list):
        return None
    if expression.get("op") == "and":
        parts = (equal_to(part, name) for part in operands if isinstance(part, dict))
        return next((text for text in parts if text is not None), None)
    is_it = expression.get("op") == "=" and operands[:1] == [{"property": name}]
    value = operands[1] if is_it and len(operands) == 2 else None
    return value if isinstance(value, str) else None


def uses(expression: Any, operations: Collection[str]) -> bool:
    """Return whether one of `operations` occurs anywhere in `expression`."""
    if not isinstance(expression, dict):
        return False
    operands = expression.get("args")
    inner = operands if isinstance(operands, list) else []
    named = str(expression.get("op", "")).lower() in operations
    return named or any(uses(part, operations) for part in inner)


def among(expression: dict[str, Any], name: str) -> list[str] | None:
    """Return the texts among which `expression` requires property `name`; None unless obvious."""
    operands = expression.get("args")
    if expression.get("op") != "in" or not isinstance(operands, list) or len(operands) != 2:
        return None
    subject, values = operands
    is_texts = isinstance(values, list) and all(isinstance(value, str) for value in values)
    return values if subject == {"property": name} and is_texts else None


def _compare(name: str, args: list[Any]) -> bool:
    left = args[0]
    if name not in _KNOWN:
        raise CqlError(f"unknown operator {name!r}")
    if name == "isnull":
        return left is None
    if left is None or len(args) < 2:
        return False
    right = args[1]
    if name in ("=", "eq"):
        return bool(right in left if isinstance(left, list) else _same(left, right))
    if name in ("<>", "!=", "neq"):
        return not _compare("=", args)
    if name in _ORDER:
        return _in_order(_ORDER[name], left, right)
    if name == "between":
        low, high = right if isinstance(right, list) else args[1:3]
        return _in_order(operator.ge, left, low) and _in_order(operator.le, left, high)
    return _compare_sets(name, left, right)


def _compare_sets(name: str, left: Any, right: Any) -> bool:
    if name in ("in", "a_overlaps"):
        return not set(_as_list(left)).isdisjoint(_as_list(right))
    if name == "a_contains":
        return set(_as_list(right)) <= set(_as_list(left))
    if name == "like":
        pattern = "".join(".*" if c == "%" else "." if c == "_" else re.escape(c) for c in right)
        return re.fullmatch(pattern, str(left), re.DOTALL) is not None
    if name == "s_intersects":
        return intersects_box(right, left)
    raise AssertionError(f"_KNOWN names {name!r}, which nothing evaluates")


def _value(arg: Any, values: Values) -> Any:
    if not isinstance(arg, dict):
        return arg
    if "property" in arg:
        name = arg["property"]
        if name not in values:
            raise CqlError(f"unknown property {name!r}")
        return values[name]
    for key in ("timestamp", "date"):
        if key in arg:
            return arg[key]
    if "type" in arg:
        return arg
    raise CqlError(f"not a value: {arg}")


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str) and left != right:
        moments = _moments(left, right)
        return moments is not None and moments[0] == moments[1]
    return bool(left == right)


def _in_order(test: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        moments = _moments(left, right)
        return test(*moments) if moments else test(left, right)
    try:
        return test(left, right)
    except TypeError:
        raise CqlError(f"cannot compare {left!r} with {right!r}") from None


def _moments(left: str, right: str) -> tuple[int, int] | None:
    try:
        return parse_us(left), parse_us(right)
    except ValueError:
        return None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# -- text


_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<op><=|>=|<>|[=<>(),])"
    r"|\"(?P<quoted>[^\"]+)\"|(?P<word>[A-Za-z_][\w:.\-]*))"
)


def parse_text(text: str) -> dict[str, Any]:
    """Parse CQL2 text into CQL2-JSON; raises `CqlError`."""
    return _CqlParser(text).parse()


class _CqlParser:
    """Recursive descent: or-terms of and-terms of comparisons."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, Any]] = []
        text = text.strip()
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise CqlError(f"cannot read the filter from {text[at:]!r}")
            self.tokens.append(_token(found))
            at = found.end()

    def parse(self) -> dict[str, Any]:
        expression = self._terms("or", lambda: self._terms("and", self._factor))
        if self.tokens:
            raise CqlError(f"unexpected {self.tokens[0][1]!r}")
        return expression

    def _terms(self, word: str, term: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        parts = [term()]
        while self._take("word", word):
            parts.append(term())
        return parts[0] if len(parts) == 1 else {"op": word, "args": parts}

    def _factor(self) -> dict[str, Any]:
        if self._take("word", "not"):
            return {"op": "not", "args": [self._factor()]}
        if self._take("op", "("):
            inner = self._terms("or", lambda: self._terms("and", self._factor))
            self._expect("op", ")")
            return inner
        subject = {"property": self._next("word")}
        negated = self._take("word", "not")
        expression = self._predicate(subject)
        return {"op": "not", "args": [expression]} if negated else expression

    def _predicate(self, subject: dict[str, Any]) -> dict[str, Any]:
        if self._take("word", "is"):
            negated = self._take("word", "not")
            self._expect("word", "null")
            is_null = {"op": "isNull", "args": [subject]}
            return {"op": "not", "args": [is_null]} if negated else is_null
        if self._take("word", "in"):
            self._expect("op", "(")
            values = [self._literal()]
            while self._take("op", ","):
                values.append(self._literal())
            self._expect("op", ")")
            return {"op": "in", "args": [subject, values]}
        if self._take("word", "like"):
            return {"op": "like", "args": [subject, self._literal()]}
        if self._take("word", "between"):
            low = self._literal()
            self._expect("word", "and")
            return {"op": "between", "args": [subject, low, self._literal()]}
        return {"op": self._next("op"), "args": [subject, self._literal()]}

    def _literal(self) -> Any:
        if self._take("word", "timestamp") or self._take("word", "date"):
            self._expect("op", "(")
            value = self._literal()
            self._expect("op", ")")
            return {"timestamp": value}
        for truth in ("true", "false"):
            if self._take("word", truth):
                return truth == "true"
        return self._next("value")

    def _take(self, kind: str, value: str) -> bool:
        if not self.tokens or self.tokens[0][0] != kind:
            return False
        if str(self.tokens[0][1]).lower() != value:
            return False
        self.tokens.pop(0)
        return True

    def _expect(self, kind: str, value: str) -> None:
        if not self._take(kind, value):
            raise CqlError(f"expected {value!r}")

    def _next(self, kind: str) -> Any:
        if not self.tokens or self.tokens[0][0] != kind:
            raise CqlError(f"expected a {kind}")
        return self.tokens.pop(0)[1]


def _token(found: re.Match[str]) -> tuple[str, Any]:
    kind = found.lastgroup or ""
    text = found[kind]
    if kind == "text":
        return "value", text[1:-1].replace("''", "'")
    if kind == "number":
        return "value", float(text) if "." in text else int(text)
    return ("word", text) if kind == "quoted" else (kind, text)
