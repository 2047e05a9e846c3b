"""Put activations into a study: chunks, shards, the thread that writes them, and what was interrupted."""
