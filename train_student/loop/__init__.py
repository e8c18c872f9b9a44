"""The training loop's parts: steps, validation, figures, checkpoints, guards."""
