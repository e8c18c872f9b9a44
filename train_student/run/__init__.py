"""A run from its command to its folder: opening, describing, dry runs, publishing."""
