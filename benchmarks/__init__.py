"""Side by side with peers: one file a question, each prints ratios and gives plain values for JSON."""
