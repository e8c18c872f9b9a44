"""Recipes: the paper's experiments as one table, and as the YAML files beside this one that `--config NAME` reads."""
