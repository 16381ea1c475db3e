"""Is a change real, or a seed? Two fixed recipes under paired seeds, one by one, until the answer is sure."""
