"""A training loop of the user's own as a trial: what it calls, how it is run, and the engine that runs it."""
