"""Benchmarks: `make bench-NAME`."""
