"""``--engine ray``: the trials of a study on the workers of a Ray cluster."""
