"""How dominant samples, what they share and what goes with them are drawn."""
