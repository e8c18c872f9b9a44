"""The format's values and parts: identity, samples, quantised log-probabilities, Zarr and WebDataset parts."""
