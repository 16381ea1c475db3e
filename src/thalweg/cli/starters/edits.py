"""A Python text with definitions left out, or given other bodies, on lines that are broken as ruff breaks them."""

import ast
from collections.abc import Iterator

LINE = 120  # letters at most


def definition(text: str, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """Returns a function or class at the top level of a text."""
    nodes = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return next((node for node in nodes if node.name == name), None)


def text_of(text: str, name: str) -> str:
    """Returns the text of one of a text's definitions."""
    node = definition(text, name)
    assert node is not None
    return "\n".join(text.split("\n")[node.lineno - 1 : node.end_lineno])


def without(text: str, name: str) -> str:
    """Returns a text without one of its definitions."""
    node, lines = definition(text, name), text.split("\n")
    if node is None:
        return text
    assert node.end_lineno is not None
    return "\n".join(lines[: node.lineno - 1] + lines[node.end_lineno :])


def with_body(text: str, name: str, body: str) -> str:
    """Returns a text with other lines than its own below the docstring of a function."""
    node, lines = definition(text, name), text.split("\n")
    assert node is not None
    first = node.body[1] if ast.get_docstring(node) is not None else node.body[0]
    end = node.end_lineno
    begin = first.lineno if ast.get_docstring(node) is None else (node.body[0].end_lineno or 0) + 1
    return "\n".join([*lines[: begin - 1], *indented(body), *lines[end:]])


def indented(body: str) -> Iterator[str]:
    """Yields the lines of a function's body.

    >>> list(indented("return 1"))
    ['    return 1']
    """
    for line in body.split("\n"):
        begin, mark, value = line.partition("return " if line.startswith("return ") else " = ")
        if len(line) <= LINE - 4 or not mark:
            yield f"    {line}"
        else:
            yield from _broken(begin + mark, ast.parse(value, mode="eval").body, "", "    ")


def _broken(before: str, node: ast.expr, after: str, indent: str) -> Iterator[str]:
    """Yields an expression, with what stands before and after it, on as many lines as it needs."""
    whole = f"{indent}{before}{ast.unparse(node)}{after}"
    more = f"{indent}    "
    if len(whole) <= LINE or not isinstance(node, ast.Call | ast.Tuple):
        yield whole
    elif isinstance(node, ast.Tuple):
        yield f"{indent}{before}("
        for part in node.elts:
            yield from _broken("", part, ",", more)
        yield f"{indent}){after}"
    else:
        yield f"{indent}{before}{ast.unparse(node.func)}("
        given = [("", part) for part in node.args] + [(f"{word.arg}=", word.value) for word in node.keywords]
        together = more + ", ".join(name + ast.unparse(part) for name, part in given)
        if len(together) <= LINE:
            yield together
        else:
            for name, part in given:
                yield from _broken(name, part, ",", more)
        yield f"{indent}){after}"
