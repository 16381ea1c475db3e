"""The lock of a folder is its holder's alone."""

import os

import pytest

from thalweg.compare.storage.folder_lock import FolderLock


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_process_that_is_forked_does_not_hold_it(tmp_path):
    lock = FolderLock(tmp_path)
    ended, end = os.pipe()
    child = os.fork()
    if child == 0:  # as a loader worker that outlives its parent
        os.close(end)
        os.read(ended, 1)
        os._exit(0)
    try:
        with pytest.raises(BlockingIOError):
            FolderLock(tmp_path)
        lock.release()
        FolderLock(tmp_path).release()
    finally:
        os.close(end)
        os.waitpid(child, 0)
