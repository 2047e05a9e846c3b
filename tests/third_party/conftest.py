"""The example plugin's own tests run where it is installed, by ``test_example_plugin.py``."""

collect_ignore = ["example_plugin"]
