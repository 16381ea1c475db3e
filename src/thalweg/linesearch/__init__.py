"""Line searches of §8.6: from a function on a line and a first step to a point on it; plain floats, no tensors."""

from thalweg.linesearch.backtracking import Backtracking
from thalweg.linesearch.fixed import Fixed
from thalweg.linesearch.hager_zhang import HagerZhang
from thalweg.linesearch.search import Found, Line, LineSearch, Point, Status
from thalweg.linesearch.strong_wolfe import MoreThuente

SEARCHES: dict[str, type[LineSearch]] = {
    "more-thuente": MoreThuente,
    "hager-zhang": HagerZhang,
    "backtracking": Backtracking,
    "fixed": Fixed,
}

__all__ = [
    "SEARCHES",
    "Backtracking",
    "Fixed",
    "Found",
    "HagerZhang",
    "Line",
    "LineSearch",
    "MoreThuente",
    "Point",
    "Status",
]
