"""Stage one: run a teacher once over a dataset and write its top-k log-probabilities to a store."""
