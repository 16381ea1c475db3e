"""The protocol carried out, and what its records come to."""
