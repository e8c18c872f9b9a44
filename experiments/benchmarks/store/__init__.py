"""What `bench_store` and its neighbours need: logits, other layouts, a store of ImageNet's size."""
