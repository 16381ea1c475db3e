"""Engines: the ways to run the same trials; all give the same records."""
