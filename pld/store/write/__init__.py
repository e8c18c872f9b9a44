"""Write stores: encode parts, commit them, collect garbage."""
