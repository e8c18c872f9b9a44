"""The training loop: steps, validation, metrics, checkpoints, and what stops a run."""
