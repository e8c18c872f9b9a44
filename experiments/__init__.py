"""What produces the figures in docs/results: benchmarks and the study. Not part of what users install."""
