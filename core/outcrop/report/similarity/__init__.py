"""How similarity between layers, and their principal components, are drawn."""
