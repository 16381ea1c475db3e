"""The lock of a folder is its holder's alone."""

import os

import pytest

from thalweg.compare.storage.folder_lock import FolderLock


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_process_that_is_forked_does_not_hold_it(tmp_path):
    lock = FolderLock(tmp_path)
    (begun, begin), (ended, end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:  # as a loader worker that outlives its parent
        os.close(end)
        os.write(begin, b"1")
        os.read(ended, 1)
        os._exit(0)
    os.read(begun, 1)
    try:
        with pytest.raises(BlockingIOError):
            FolderLock(tmp_path)
        lock.release()
        FolderLock(tmp_path).release()
    finally:
        os.close(end)
        os.waitpid(child, 0)
