"""Foreign text made visible: characters that steer a terminal, hide, or change the direction.

Names and error texts come from UP42 and from other programs on this machine. Printed raw, an escape
sequence recolours or rewrites the terminal, a line break forges a line of a log, and a bidi
override makes one name look like another. So all text output of this program passes through here:
`logs` does it for log lines, `cli.terminal` for the output of commands.
"""

from __future__ import annotations


def visible(text: str, keep: str = "") -> str:
    r"""`text` with each unprintable character as Python escapes it (`\x1b`, `\u202e`).

    Characters of `keep` stay, for instance the line breaks of a text of several lines.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escape(char) for char in text)


def visible_json(text: str) -> str:
    """Equivalent JSON, with escapes for unprintable characters except line breaks and tabs.

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
