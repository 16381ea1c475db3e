"""What an error of torch's, gloo's or Ray's says where its type does not: every decision on an error's text.

``tests/tensors/test_error_texts.py`` has the installed versions raise each.
"""


def is_gone(error: RuntimeError) -> bool:
    """Says whether a graph is differentiated whose values backward has freed."""
    return "a second time" in str(error)


def is_changed(error: RuntimeError) -> bool:
    """Says whether a tensor that a graph holds was changed in place."""
    return "modified by an inplace operation" in str(error)


def lacks_derivative(error: RuntimeError) -> bool:
    """Says whether an operation cannot be differentiated again."""
    return any(words in str(error) for words in ("is not implemented", "double backward", "donated buffers"))


def is_about_vmap(error: RuntimeError) -> bool:
    """Says whether an operation cannot be run for a batch of models."""
    return "vmap" in str(error)


def reads_values(error: Exception) -> bool:
    """Says whether a stacked model reads the value of a tensor, as ``.item()`` and ``if`` do."""
    return "vmap: It looks like you're" in str(error) or "data-dependent control flow" in str(error)


def lacks_memory(error: Exception) -> bool:
    """Says whether memory ran out on the CPU, for which torch has no type of error."""
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def is_lost_connection(text: str) -> bool:
    """Says whether gloo has lost another process.

    >>> is_lost_connection("[.../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:24726.")
    True
    """
    return "gloo" in text and any(word in text for word in ("onnection", "closed", "reset", "roken pipe"))


def death_of_worker(text: str) -> str:
    """Returns in a few words why a worker of Ray's died, "" where the text does not say."""
    if "node has died" in text:
        return "its node died"
    if "memory pressure" in text or "OOM" in text.partition("Some common causes")[0]:
        return "its node was short of memory"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    details = [line for line in lines if "Error: " in line] or [line for line in lines if "Worker exit detail" in line]
    return (details or lines or [""])[-1].rpartition("Worker exit detail: ")[2].split(". ")[0][:200]


def is_about_shapes(warning: Warning | str) -> bool:
    """Says whether a loss broadcasts a target of another shape than the output."""
    return "that is different to the input size" in str(warning)
