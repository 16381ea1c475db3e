"""The text of the kernel that works out the norm of all gradients over the table of their addresses."""

import torch

from thalweg.optim.kernel.source import NAMES

PROGRAMS = 1024  # at most; each sums the squares of every so many-th chunk

# Squares and sums are in float64, in an order that is always the same: the program that ends last adds up what all
# have found.
_NORM = """\
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["count"], do_not_specialize_on_alignment=["out"])
def norm(sizes, owners, chunks, counter, partials, count, kept, grads, out):
    at = tl.arange(0, {block})
    total = tl.zeros(({block},), tl.float64)
    i = tl.program_id(0)
    while i < count:
        owner = tl.load(owners + i)
        size = tl.load(sizes + owner)
        begin = tl.load(chunks + i).to(tl.int64) * {block}
        grad_at = tl.load(grads + owner).to(tl.pointer_type({dtype}))
        grad_at = {grad_at} + begin
        if begin + {block} <= size:
            grad = tl.load(grad_at + at).to(tl.float64)
            total += grad * grad
        else:
            grad = tl.load(grad_at + at, mask=at < size - begin, other=0.0).to(tl.float64)
            total += grad * grad
        i += tl.num_programs(0)
    tl.store(partials + tl.program_id(0), tl.sum(total))
    tl.debug_barrier()
    if tl.atomic_add(counter, 1, sem="acq_rel") == tl.num_programs(0) - 1:
        tl.store(counter, 0)
        each = tl.arange(0, {programs})
        found = tl.load(partials + each, mask=each < tl.num_programs(0), other=0.0, volatile=True)
        root = tl.sqrt(tl.sum(found))
        tl.store(kept, root)
        tl.store(out, root.to(out.dtype.element_ty))
"""


def norm_source(dtype: torch.dtype, aligned: bool, block: int) -> str:
    """Returns the text of the norm's kernel for gradients of a real type."""
    grad_at = "tl.multiple_of(grad_at, 16)" if aligned else "grad_at"
    return _NORM.format(dtype=NAMES[dtype], grad_at=grad_at, block=block, programs=PROGRAMS)
