"""The ``outcrop`` command line."""
