"""Blocks of similar layers: where they are, and the evidence for them."""
