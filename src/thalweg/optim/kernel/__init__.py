"""One kernel an update on a GPU, over all tensors at once, made by Triton from the text of the rule itself."""
