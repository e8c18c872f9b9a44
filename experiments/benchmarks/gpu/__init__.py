"""What `bench_gpu` checks and times on the device, apart from the losses' steps."""
