"""Layer and normalization side by side in an nn.Sequential that is only ever called, where no graph can be read."""

import ast
import inspect
import textwrap
from collections import Counter
from itertools import pairwise

from torch import Tensor, nn

from thalweg.tensors.known import obstacle
from thalweg.tensors.private import forward_hooks, forward_pre_hooks, own_modules

# By these a module comes at its parts without naming them.
_NAMES = (
    "modules named_modules children named_children parameters named_parameters buffers named_buffers state_dict apply "
    "get_submodule get_parameter get_buffer _modules _parameters _buffers __dict__ __getattr__"
)
EVERYTHING = frozenset(_NAMES.split())
OWN = frozenset(vars(nn.Module()))


def neighbours(model: nn.Module) -> dict[str, str]:
    """Returns from names of modules to those of the modules before them, in an nn.Sequential that is called alone.

    The source of all classes in the model is asked: a Sequential, or what holds it, that is named without being called
    may have its parts used one by one, and is left out; without the source all are.
    """
    named = _named(model)
    if named is None:
        return {}
    places = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    found = {}
    for name, block in model.named_modules():
        if (
            isinstance(block, nn.Sequential)
            and not obstacle(block, (nn.Sequential,))
            and named.isdisjoint(name.split("."))
        ):
            for (first, layer), (second, norm) in pairwise(own_modules(block).items()):
                if places[id(layer)] == places[id(norm)] == 1:
                    found[f"{name}.{second}".lstrip(".")] = f"{name}.{first}".lstrip(".")
    return found


def _named(model: nn.Module) -> set[str] | None:
    """Returns the attributes that the model's own code names without calling them; None where more may be reached."""
    for module in model.modules():
        held = [value for key, value in vars(module).items() if key not in OWN]
        held += [v for box in held if isinstance(box, (list, tuple, set)) for v in box]
        held += [v for box in held if isinstance(box, dict) for v in box.values()]
        if any(isinstance(v, (nn.Module, Tensor)) for v in held) or "forward" in vars(module):
            return None
        if forward_hooks(module) or forward_pre_hooks(module):
            return None
    classes = {cls for module in model.modules() for cls in type(module).__mro__}
    found: set[str] = set()
    for cls in classes:
        if cls is object or cls.__module__.partition(".")[0] in ("torch", "thalweg"):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        except (OSError, TypeError, SyntaxError):
            return None
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name != "__init__":
                attributes = [n for n in ast.walk(node) if isinstance(n, ast.Attribute)]
                called = {id(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
                asked = {id(n.value) for n in attributes}
                first = node.args.args[0].arg if node.args.args else ""
                passed_on = [
                    n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id == first and id(n) not in asked
                ]
                if passed_on or not EVERYTHING.isdisjoint(n.attr for n in attributes):
                    return None
                found |= {n.attr for n in attributes if id(n) not in called}
    return found
