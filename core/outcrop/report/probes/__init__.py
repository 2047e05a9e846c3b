"""How responses to synthetic samples are drawn."""
