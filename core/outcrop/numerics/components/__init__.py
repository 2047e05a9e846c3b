"""Principal components of layers over all samples, streamed."""
