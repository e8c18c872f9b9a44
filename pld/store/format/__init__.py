"""What a store's bytes mean: identity, samples, quantised log-probabilities, Zarr and WebDataset parts."""
