"""Data files: read from the folder named in ``THALWEG_DATA``, else downloaded once and checked."""

import logging
import os
from pathlib import Path

from thalweg.compare.user_errors import TaskError
from thalweg.extras import needs


def data_file(folder: str, name: str, url: str, sha256: str) -> Path:
    """Returns the path of a data file.

    Raises:
        TaskError: it is not in ``THALWEG_DATA``, or cannot be downloaded, or its checksum is wrong.
    """
    root = os.environ.get("THALWEG_DATA")
    if root:
        path = Path(root) / folder / name
        if not path.is_file():
            raise TaskError(f"{path} does not exist: put it there, or unset THALWEG_DATA to download it")
        return path
    with needs("compare", "a download"):
        import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    try:
        cache = pooch.os_cache("thalweg") / folder
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=cache, progressbar=False))
    except Exception as error:
        line = (str(error).splitlines() or ["no message"])[0][:160]
        raise TaskError(
            f"cannot download {url} ({type(error).__name__}: {line}): "
            f"put {folder}/{name} into a folder, and set THALWEG_DATA to that folder"
        ) from error
