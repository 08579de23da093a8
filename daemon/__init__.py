"""Owns the trainer processes, the store's only writer and the sockets; imports no torch outside `daemon.worker`."""
