"""The user's files as modules that any process can import: the module's name says which file it is.

What such a file defines is sent to other processes by its module's name. A process that ``multiprocessing`` begins anew
(``spawn``, ``forkserver``) imports that name: this module, its parent, reads the path from it.
"""

import sys
from contextlib import suppress
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from os import fsdecode, fsencode
from pathlib import Path
from types import ModuleType
from urllib.parse import quote_from_bytes, unquote_to_bytes

__path__: list[str] = []  # so that its modules are looked for, by the finder alone
PREFIX = f"{__name__}."
FOLDERS: set[Path] = set()  # that the user's files lie in
_STAMPS: dict[str, tuple[int, int]] = {}  # of the files that were run: time of the last change in ns, size


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not fullname.startswith(PREFIX):
            return None
        return spec_from_file_location(fullname, _path_of(fullname))


sys.meta_path.insert(0, _Finder())


def name_of(file: Path) -> str:
    """Returns the name of the module that an absolute path is.

    >>> name_of(Path("/home/me/my.py"))
    'thalweg.compare.user_files.%2Fhome%2Fme%2Fmy%2Epy'
    """
    return PREFIX + quote_from_bytes(fsencode(file), safe="").replace(".", "%2E")


def shown(module: str) -> str:
    """Returns a module's name to read: of one that is a file, the file's.

    >>> shown(name_of(Path("/home/me/my.py"))), shown("torch.optim")
    ('my', 'torch.optim')
    """
    return Path(_path_of(module)).stem if module.startswith(PREFIX) else module


def module_at(file: Path) -> ModuleType:
    """Returns the module that a file at an absolute path is; what ``python FILE`` would find beside it is found.

    A file of a package, whose folder has an ``__init__.py``, is that package's module. Any other is run once, and again
    when it has changed.
    """
    beside(file.parent)
    if (dotted := _dotted(file)) is not None:
        return import_module(dotted)
    name, status = name_of(file), file.stat()
    stamp = status.st_mtime_ns, status.st_size
    if _STAMPS.get(name) != stamp:
        sys.modules.pop(name, None)
        _STAMPS.pop(name, None)
        import_module(name)
        _STAMPS[name] = stamp
    return sys.modules[name]


def beside(folder: Path) -> None:
    """Lets what lies in a folder, by its absolute path, be imported here and in processes that are begun from here."""
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))
    FOLDERS.add(folder)


def _path_of(module: str) -> str:
    return fsdecode(unquote_to_bytes(module.removeprefix(PREFIX)))


def _dotted(file: Path) -> str | None:
    """Returns the name of the file's module in its package; None where it has none, or another module has that name."""
    parts, folder = [file.stem], file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if len(parts) == 1:
        return None
    beside(folder)
    with suppress(ModuleNotFoundError):
        found = find_spec(".".join(parts))
        if found is not None and found.origin and Path(found.origin).resolve() == file:
            return found.name
    return None
