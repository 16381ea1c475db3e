"""The chapter's figures, drawn by the real code: one file a figure, each with ``draw() -> Figure``."""
