"""The backplanes of one machine: the memory of one process, and the supervisor's broker for its workers."""
