"""Stream activations out of models: sources of activations, accumulators, and what a capture will cost."""
