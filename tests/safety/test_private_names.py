"""Names that other libraries do not publish stand in one module each, and no environment is changed at import."""

import ast

import pytest

from tests.safety.test_source import FILES, SOURCE, dotted, meanings

HOMES = {"tensors/private.py", "coordinate/scikit_learn.py", "compare/execution/ray/private.py"}
PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_getframe"}  # Python's own, which its manual names


@pytest.fixture(scope="module")
def trees():
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def is_private(name):
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def defined(tree):
    """Yields the names that a source gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def strangers(tree, own=frozenset()):
    """Yields private names of others that a source imports, or asks an object or a module for."""
    means = meanings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Attribute):
            full = dotted(node, means)
            found = [full if full.split(".")[0] in ("torch", "sklearn") else node.attr]
        elif isinstance(node, ast.Call) and dotted(node.func, means) in ("getattr", "hasattr", "setattr"):
            found = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
        else:
            continue
        for full in found:
            names = [part for part in full.split(".") if is_private(part) and part not in PUBLIC]
            if names and not full.startswith("thalweg.") and ("." in full or names[0] not in own):
                yield f"line {node.lineno}: {full}"


def test_no_other_module_uses_what_is_not_published(trees):
    own = {name for tree in trees.values() for name in defined(tree)}
    others = {name: tree for name, tree in trees.items() if name not in HOMES}
    assert {name: found for name, tree in others.items() if (found := list(strangers(tree, own)))} == {}
    assert len(trees) == len(others) + len(HOMES) > 300


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch._foreach_add([], 1)",
        "import torch._dynamo",
        "from torch import _C",
        "from torch.utils._pytree import tree_map",
        "from torch import nn\nnn.modules.conv._ConvNd",
        "from sklearn.utils.validation import _check_sample_weight",
        "tensor._version",
        "module._parameters['weight']",
        "getattr(hook, '_tensor_name', '')",
    ],
)
def test_the_search_finds_each_of_them(text):
    assert len(list(strangers(ast.parse(text), {"_own"}))) == 1


@pytest.mark.parametrize(
    "text", ["self._own", "entry._replace(p=1)", "from thalweg.x import _own", "getattr(a, '_own')", "a.__dict__"]
)
def test_what_is_ones_own_is_no_strangers(text):
    assert list(strangers(ast.parse(text), {"_own"})) == []


def writes(node):
    """Yields what is run when a module is imported, that names the environment to change it."""
    for part in ast.iter_child_nodes(node):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        text = ast.unparse(part)
        changed = isinstance(part, ast.Subscript) and isinstance(part.ctx, (ast.Store, ast.Del))
        if (changed and "environ" in text) or (
            isinstance(part, ast.Call) and text.startswith(("os.environ.", "os.putenv", "environ."))
        ):
            yield f"line {part.lineno}: {text}"
        yield from writes(part)


def test_no_import_reads_or_changes_the_environment(trees):
    assert {name: found for name, tree in trees.items() if (found := list(writes(tree)))} == {}


@pytest.mark.parametrize(
    "text", ["os.environ['A'] = 'b'", "os.environ.setdefault('A', 'b')", "if x:\n    os.environ.update(a)"]
)
def test_the_search_finds_each_change(text):
    assert len(list(writes(ast.parse(text)))) == 1
