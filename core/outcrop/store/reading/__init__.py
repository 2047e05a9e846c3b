"""Get activations out of a study: lazy arrays by model, layer, sample and label."""
