"""What produces the figures in docs/results: benchmarks and the study. Not in the wheel."""
