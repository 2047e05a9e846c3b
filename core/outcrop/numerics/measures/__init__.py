"""Measures of similarity between two sets of features, and what each sample has in them."""
