"""Dry runs: what a run will do and need, two steps on made-up images, and a minute on its real ones."""
