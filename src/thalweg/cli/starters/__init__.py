"""What ``thalweg init`` writes: a file for each kind of training, and what of it a module of the user's gives."""
