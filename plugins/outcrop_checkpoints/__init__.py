"""How the layers of a network compare within each checkpoint of its training, and with the last one."""
