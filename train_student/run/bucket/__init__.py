"""Runs on object stores: pushed from a local folder, pulled when they go on, locked while a command trains."""
