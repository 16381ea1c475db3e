"""Names and texts that others wrote: what is refused as a name, and how the rest is shown."""

import re
import unicodedata

UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control and format characters, surrogates, line and paragraph separators
FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # how a cell begins that spreadsheets compute


def printable(text: str) -> str:
    """Returns a text with its control characters but the line feed as escapes, so that a terminal obeys none of them.

    >>> print(printable("a\\x1b[31mb\\u202e c"))
    a\\x1b[31mb\\u202e c
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c == "\n" or unicodedata.category(c) not in UNSHOWN else _escaped(c) for c in text)


def cell(value: object) -> object:
    """Returns a value as a cell of a table for spreadsheets: a text stays text there, even one that is a formula.

    >>> cell("=1+1"), cell(-0.5), cell("adam")
    ("'=1+1", -0.5, 'adam')
    """
    if not isinstance(value, str):
        return value
    return printable(f"'{value}" if value.startswith(FORMULA) else value).replace("\n", "\\n")


def check_name(what: str, name: object) -> None:
    """Raises ValueError where what names something is empty, or holds what cannot be shown in a line.

    >>> check_name("a strategy", "a\\nb")
    Traceback (most recent call last):
    ValueError: the name of a strategy is 'a\\nb': choose one of printable characters on one line
    """
    if not isinstance(name, str) or not name.strip() or "\n" in name or printable(name) != name:
        shown = ascii(name)[:200]
        raise ValueError(f"the name of {what} is {shown}: choose one of printable characters on one line")


def as_folder(name: str) -> str:
    """Returns a name as that of one folder.

    >>> as_folder("../my task")
    'my-task'
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "task"


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
