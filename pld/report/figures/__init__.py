"""Plots as matplotlib figures."""
