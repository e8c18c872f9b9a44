"""Readers of datasets: each turns what a user names into a Source."""
