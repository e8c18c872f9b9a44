"""Class names, the authority on classes: reading them, and matching teacher, store and data by them."""
