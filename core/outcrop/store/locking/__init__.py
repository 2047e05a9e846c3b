"""One writer at a time: a lock file on a disk, a lease on an object store."""
