"""Nothing in the package can run what it reads, nor fetch what it does not check."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "thalweg"
FILES = sorted(SOURCE.rglob("*.py"))
RUNS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "code", "runpy", "yaml"}
FETCHES = {"urllib.request", "requests", "httpx", "aiohttp", "ftplib", "http.client", "urllib3"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "torch.jit.load",
    "pooch.create",
    "numpy.lib.format.read_array",
}
# What is excepted, and why.
ALLOWED = {
    "tensors/files.py": {"pickle.UnpicklingError"},  # an error's name, to catch it
    "compare/task/loading.py": {"exec_module"},  # the task or strategy that the user named is a program, and is run
    # what the processes of one launch say to each other, never what is read from disk
    "cli/processes.py": {"torch.distributed.all_gather_object"},
    "optim/kernel/source.py": {"exec", "compile"},  # a kernel's text, which it has itself written just before
    # has the user's task sent to Ray's workers by value
    "compare/execution/ray/pool.py": {
        "ray.cloudpickle.register_pickle_by_value",
        "ray.cloudpickle.unregister_pickle_by_value",
    },
}


def meanings(tree):
    """Returns what each imported name stands for, dotted, wherever in the file it is imported."""
    found = {"np": "numpy"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return found


def dotted(node, means):
    """Returns the full name of an expression, as imported; of what is no name, its last parts."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    first = means.get(node.id, node.id) if isinstance(node, ast.Name) else ""
    return ".".join([first, *reversed(parts)]).removeprefix("builtins.")


def literal(node, name, default):
    """Returns a keyword argument of a call; None where it is there and is no literal."""
    found = next((k.value for k in node.keywords if k.arg == name), ast.Constant(default))
    return found.value if isinstance(found, ast.Constant) else None


def offences(text, name="some.py"):
    """Yields what a source may not do."""
    tree, allowed = ast.parse(text), ALLOWED.get(name, set())
    means = meanings(tree)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{a.name}" for a in node.names]
        elif isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in inner:
            names = [dotted(node, means)]
        for full in names:
            top, last = full.split(".")[0], full.split(".")[-1]
            parts = {".".join(full.split(".")[:k]) for k in range(1, full.count(".") + 2)}
            imported = not isinstance(node, ast.Name) or node.id in means  # a variable may be called so
            runs = (top in RUNS and imported) or "cloudpickle" in full or full in CALLS or full.startswith("torch.hub.")
            runs = (
                runs or last in {"read_pickle", "exec_module"} or (last.endswith("_object") and "distributed" in full)
            )
            bare = isinstance(node, ast.Import) and any(a.startswith(full + ".") for a in allowed)
            if (runs or parts & FETCHES) and not {full, last} & allowed and not bare:
                yield f"line {node.lineno}: {full}"
        if isinstance(node, ast.Call):
            full = dotted(node.func, means)
            if full in {"torch.load", "torch.serialization.load"} and literal(node, "weights_only", False) is not True:
                yield f"line {node.lineno}: torch.load without weights_only=True"
            if full == "numpy.load" and literal(node, "allow_pickle", True) is not False:
                yield f"line {node.lineno}: np.load without allow_pickle=False"
            if literal(node, "shell", False) is not False:
                yield f"line {node.lineno}: a shell"
            if full == "pooch.retrieve":
                hashes = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "known_hash")]
                if not any("sha256:" in ast.unparse(h) for h in hashes):
                    yield f"line {node.lineno}: a download without a checksum"


def test_no_file_runs_what_it_reads_or_fetches_unchecked():
    texts = {path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
    assert {name: found for name, text in texts.items() if (found := list(offences(text, name)))} == {}
    assert len(texts) > 300


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.load(p, weights_only=flag)",
        "import torch as t\nt.load(p)",
        "from torch import load\nload(p)",
        "torch.serialization.load(p)",
        "torch.jit.load(p)",
        "torch.hub.load('a', 'b')",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "from numpy import load as l\nl(p)",
        "pooch.retrieve(url, None)",
        "pooch.retrieve(url, known_hash=None)",
        "from pooch import retrieve\nretrieve(url, None)",
        "import urllib.request",
        "from urllib import request",
        "from http import client",
        "from os import system",
        "import os as o\no.system('x')",
        "subprocess.run(words, shell=True)",
        "subprocess.run(words, shell=flag)",
        "subprocess.getoutput('x')",
        "import torch\npandas.read_pickle(p)",
        "__import__('os')",
        "run = eval",
        "builtins.exec(text)",
        "ray.cloudpickle.loads(raw)",
        "spec.loader.exec_module(m)",
        "torch.distributed.all_gather_object(a, b)",
    ],
)
def test_the_search_finds_each_of_them(text):
    assert len(list(offences(text))) == 1


@pytest.mark.parametrize(
    "text", ["import pickle\npickle.loads(b'')", "from pickle import loads", "import pickle as p\np.loads(b'')"]
)
def test_what_is_excepted_is_an_error_alone(text):
    assert list(offences("import pickle\npickle.UnpicklingError", "tensors/files.py")) == []
    assert len(list(offences(text, "tensors/files.py"))) == 1


def test_what_no_test_runs_imports_what_is_there():
    """Benchmarks and the gallery take hours to run; what they import of this repository must exist."""
    for file in [path for part in ("benchmarks", "docs", "examples") for path in sorted((ROOT / part).rglob("*.py"))]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in ("thalweg", "benchmarks"):
                lacking = [name.name for name in node.names if not _is_there(node.module, name.name)]
                assert lacking == [], f"{file.relative_to(ROOT)} imports {lacking} from {node.module}"


def _is_there(module, name):
    """Says whether a module defines or imports a name, or contains a module of that name; loads it not."""
    found = ROOT / ("src" if module.startswith("thalweg") else ".") / module.replace(".", "/")
    if (found / name).is_dir() or (found / f"{name}.py").exists():
        return True
    text = (found / "__init__.py" if found.is_dir() else found.with_suffix(".py")).read_text(encoding="utf-8")
    return re.search(rf"\b{name}\b", text) is not None
