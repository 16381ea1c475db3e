"""A full disk at any byte leaves the file as it was, and nothing beside it."""

import errno
import io
from pathlib import Path

import pytest
import torch

from thalweg.tensors.files import FileError, read_safely, write_text, write_whole


class Full(io.FileIO):
    """A file on a disk with so much room."""

    room = 0

    def write(self, data):
        if self.tell() + len(memoryview(data).cast("B")) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 1_000, 5_000, 20_000, 39_000])
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch, room):
    path = tmp_path / "state.pt"
    write_whole({"a": torch.zeros(3)}, path)
    opened = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Full, "room", room)
        patch.setattr(Path, "open", lambda p, mode: Full(p, mode) if mode == "wb" else opened(p, mode))
        for write, content in ((write_whole, {"a": torch.zeros(10_000)}), (write_text, "a" * 40_000)):
            with pytest.raises(FileError, match=r"cannot write .* \(No space left on device\): .*free some space"):
                write(content, path)
    assert read_safely(path)["a"].tolist() == [0, 0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]
