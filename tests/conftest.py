"""What holds for all tests: they run on several processes, so each of those keeps to one thread."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch and numpy are imported; processes with two threads each would only wait for one another.
    os.environ["OMP_NUM_THREADS"] = "1"
