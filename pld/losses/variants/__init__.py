"""Variants of knowledge distillation: another target, weight, mask or divergence on what a TopK holds."""
