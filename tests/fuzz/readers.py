"""``python -m tests.fuzz.readers SECONDS``: the binary readers under atheris, which sees what code their bytes reach.

Each reader gets its share of the seconds in a process of its own; what it raises beside its own error ends it and is
kept in the folder ``crashes``.
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

READERS = ("idx", "checkpoint", "safetensors", "store", "npy", "image")


def _reader(name: str, folder: Path) -> tuple[Callable[[bytes], None], list[bytes]]:
    """Returns what reads bytes, raising nothing but its own error, and good bytes to begin with."""
    import numpy as np
    import torch
    from PIL import Image
    from safetensors.torch import save

    from tests.serve.synthetic import make
    from thalweg.cli.sparse_code import _array
    from thalweg.compare.storage.store import Store, StudyError
    from thalweg.compare.task.builtin.mnist import parse_idx
    from thalweg.pretraining import read_weights

    state, file = {"weight": torch.zeros(2, 3)}, io.BytesIO()

    def on_disk(ending: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
        path = folder / f"file.{ending}"

        def reading(raw: bytes) -> None:
            path.write_bytes(raw)
            with suppress(ValueError):
                read(path)

        return reading

    def idx(raw: bytes) -> None:
        with suppress(ValueError):
            parse_idx(raw)

    def store(raw: bytes) -> None:
        (folder / "study").mkdir(exist_ok=True)
        (folder / "study" / "study.sqlite").write_bytes(raw)
        try:
            opened = Store.open(folder / "study")
            try:
                list(opened.records())
            finally:
                opened.close()
        except StudyError:
            pass

    if name == "idx":
        return idx, [bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 7, 7])]
    if name == "checkpoint":
        torch.save(state, file)
        old = io.BytesIO()
        torch.save(state, old, _use_new_zipfile_serialization=False)
        return on_disk("pt", read_weights), [file.getvalue(), old.getvalue()]
    if name == "safetensors":
        return on_disk("safetensors", read_weights), [save(state)]
    if name == "store":
        made = make(folder / "made", names=("sgd",))
        return store, [(made / "study.sqlite").read_bytes()]
    if name == "npy":
        np.save(file, np.zeros((2, 3)))
        return on_disk("npy", lambda path: _array(path, Image)), [file.getvalue()]
    seeds = []
    for form in ("png", "jpeg", "gif", "bmp", "tiff"):
        part = io.BytesIO()
        Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(part, form)
        seeds.append(part.getvalue())
    return on_disk("png", lambda path: _array(path, Image)), seeds


def fuzz(name: str, seconds: int, crashes: str) -> None:
    """Fuzzes one reader, in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(
        include=[
            "thalweg.compare.storage.store",
            "thalweg.compare.storage.rows",
            "thalweg.compare.task.builtin",
            "thalweg.tensors.files",
            "thalweg.cli",
            "thalweg.pretraining",
            "PIL",
        ]
    ):
        import thalweg.cli.sparse_code
        import thalweg.compare.storage.store
        import thalweg.compare.task.builtin.mnist
        import thalweg.pretraining  # noqa: F401
    folder = Path(tempfile.mkdtemp())
    read, seeds = _reader(name, folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(seeds):
        (corpus / str(i)).write_bytes(seed)
    atheris.Setup(
        [
            name,
            f"-max_total_time={seconds}",
            "-rss_limit_mb=8000",
            "-timeout=20",
            f"-artifact_prefix={crashes}/{name}-",
            str(corpus),
        ],
        read,
    )
    atheris.Fuzz()


def main() -> int:
    """Fuzzes every reader; returns 1 where one raised what it should not."""
    share, crashes, bad = int(sys.argv[1]) // len(READERS), Path("crashes").absolute(), []
    crashes.mkdir(exist_ok=True)
    for name in READERS:
        call = f"from tests.fuzz.readers import fuzz; fuzz({name!r}, {share}, {str(crashes)!r})"
        done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
        last = [line for line in done.stderr.splitlines() if line.startswith(("Done", "#", "=="))][-1:]
        print(f"{name}: {'sound' if not done.returncode else 'FAILED'}, {' '.join(last)}", flush=True)
        if done.returncode:
            bad.append(name)
            print(done.stdout[-2000:], done.stderr[-3000:])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
