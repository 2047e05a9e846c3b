"""Similarity between all layers of all models, and the blocks of layers that one principal component holds together."""
