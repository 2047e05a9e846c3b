"""What holds for all tests: they run on several processes, each of which keeps to one thread and can be interrupted."""

import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch and numpy are imported; processes with two threads each would only wait for one another.
    os.environ["OMP_NUM_THREADS"] = "1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control lets what it starts in the background ignore interrupts; some tests send them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
