"""Class names: read from files, and matched between teacher, store and dataset."""
