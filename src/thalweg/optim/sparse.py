"""Sparse gradients, as of ``nn.Embedding(sparse=True)``: only the rows that have one are read and stepped."""

from thalweg.optim.entries import Entry, Group, is_flat, tensors_of
from thalweg.rules.rule import Rule


class Rows:
    """The rows of a parameter that its sparse gradient names, with their state, as an entry of their own.

    Where a rule moves all rows, the entry is the whole parameter's, with a dense gradient.
    """

    def __init__(self, entry: Entry, rule: Rule) -> None:
        grad = entry.grad.coalesce()
        self._whole, self._names, self._at = entry, tuple(rule.buffers), tuple(grad.indices())
        if rule.sparse == "all":
            self._at = ()
            self.entry = entry._replace(grad=grad.to_dense())
        else:
            state = {n: v[self._at] if n in rule.buffers else v for n, v in entry.state.items()}
            self.entry = Entry(entry.p.detach()[self._at], grad.values(), state)
        self.entry = self.entry._replace(flat=is_flat(tensors_of(self.entry, rule)))

    def put(self) -> None:
        """Writes the rows back, once they are stepped."""
        if not self._at:
            return
        self._whole.p[self._at] = self.entry.p
        for name, value in self.entry.state.items():
            if name in self._names:
                self._whole.state[name][self._at] = value
            else:
                self._whole.state[name] = value


def check_sparse(owner: str, rule: Rule, group: Group) -> None:
    """Raises RuntimeError, in torch's words, unless the group's rule takes sparse gradients."""
    if rule.sparse is None:
        more = " (torch.optim.SparseAdam is Adam for the named rows only)" if "Adam" in owner else ""
        raise RuntimeError(
            f"{owner} does not support sparse gradients, because its steps also change rows whose gradient is zero: "
            "build the "
            f"embedding with sparse=False, or use SGD or AdaGrad{more}"
        )
    if group["weight_decay"]:
        raise RuntimeError(
            "weight_decay option is not compatible with sparse gradients, because it changes every row: build the "
            "embedding with sparse=False, or put it in a group with weight_decay=0"
        )
