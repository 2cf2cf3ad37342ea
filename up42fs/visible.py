"""Foreign text made visible: what steers a terminal, hides, or turns the direction of writing.

Names and error texts come from UP42 and from other programs on this machine. Printed raw, an escape
sequence recolours or rewrites the terminal, a line break forges a line of a log, and a bidi
override makes one name look like another. So all that leaves this program as text passes through
here: `logs` does it for log lines, `cli.terminal` for what commands print.
"""

from __future__ import annotations


def visible(text: str, keep: str = "") -> str:
    r"""`text` with each character that is not printable as Python escapes it (`\x1b`, `\u202e`).

    Characters of `keep` stay, for instance the line breaks of a text that has several lines.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escape(char) for char in text)


def visible_json(text: str) -> str:
    """JSON that says the same, with escapes in place of what is not printable but line breaks.

    Only strings hold such characters, so the result is JSON, and nothing of it is lost.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else _json_escape(char) for char in text
    )


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a path that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
