"""Similarity of many layers accumulated over batches, with its uncertainty."""
