"""Principal components of every layer over all samples: what share they hold, and which samples carry them."""
