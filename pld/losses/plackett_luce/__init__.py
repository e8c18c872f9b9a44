"""The Plackett-Luce negative log-likelihood that ranking losses share, with its Triton kernel."""
