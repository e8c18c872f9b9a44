"""Class names: the authority on classes. Matching them between teacher, store and data, and reading them from files."""
