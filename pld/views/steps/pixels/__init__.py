"""What operations do to pixels: with Pillow, with NumPy, or in C."""
