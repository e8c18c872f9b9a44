"""Photos to measure with, the streams of batches that `bench_input` compares, and the memory that they hold."""
