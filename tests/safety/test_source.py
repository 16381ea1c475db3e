"""Nothing in the package can run what it reads, nor fetch what it does not check."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "thalweg"
FILES = sorted(SOURCE.rglob("*.py"))
RUNS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "code", "runpy", "yaml"}
FETCHES = {"urllib.request", "requests", "httpx", "aiohttp", "ftplib", "http.client", "urllib3"}
NAMED_ONLY = {"tensors/files.py": {"pickle": {"UnpicklingError"}}}  # an error's name, to catch it


def called(node):
    """Returns the dotted name of what a call calls."""
    parts, at = [], node.func
    while isinstance(at, ast.Attribute):
        parts.append(at.attr)
        at = at.value
    return ".".join([at.id if isinstance(at, ast.Name) else "", *reversed(parts)])


def given(node, name):
    """Returns a keyword argument of a call as a literal, None where it is none."""
    found = next((k.value for k in node.keywords if k.arg == name), None)
    return found.value if isinstance(found, ast.Constant) else None


def offences(text, name="some.py"):
    """Yields what a source may not do."""
    allowed = NAMED_ONLY.get(name, {})
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for module in names:
                if module.split(".")[0] in RUNS - set(allowed) or module in FETCHES:
                    yield f"line {node.lineno}: imports {module}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in allowed:
            if node.attr not in allowed[node.value.id]:
                yield f"line {node.lineno}: uses {node.value.id}.{node.attr}"
        elif isinstance(node, ast.Call):
            what = called(node)
            if what in {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}:
                yield f"line {node.lineno}: calls {what}"
            if what == "torch.load" and given(node, "weights_only") is not True:
                yield f"line {node.lineno}: torch.load without weights_only=True"
            if what.endswith(("np.load", "numpy.load")) and given(node, "allow_pickle") is not False:
                yield f"line {node.lineno}: np.load without allow_pickle=False"
            if what.endswith("read_pickle") or given(node, "shell") is True:
                yield f"line {node.lineno}: {what}"
            if what == "pooch.retrieve" and "sha256:" not in ast.unparse(node.args[1]):
                yield f"line {node.lineno}: a download without a checksum"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_no_file_runs_what_it_reads_or_fetches_unchecked(path):
    assert list(offences(path.read_text(encoding="utf-8"), path.relative_to(SOURCE).as_posix())) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from joblib import load", "eval('1')", "torch.load(p)", "torch.load(p, weights_only=False)",
        "np.load(p)", "np.load(p, allow_pickle=True)", "pooch.retrieve(url, None)", "import urllib.request",
        "subprocess.run(words, shell=True)", "import torch\npandas.read_pickle(p)", "__import__('os')",
    ],
)  # fmt: skip
def test_the_search_finds_each_of_them(text):
    assert len(list(offences(text))) == 1


def test_what_is_excepted_is_an_error_alone():
    assert list(offences("import pickle\npickle.loads(b'')", "tensors/files.py")) == ["line 2: uses pickle.loads"]
