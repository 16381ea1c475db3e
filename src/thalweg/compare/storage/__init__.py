"""A study in a file: its facts and the results of its trials."""
