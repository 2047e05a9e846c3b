"""Which samples dominate the layers of a network, what they share, and what goes when they do."""
