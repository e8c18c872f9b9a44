"""The Plackett-Luce negative log-likelihood: its public function, its rows, its fused kernel."""
