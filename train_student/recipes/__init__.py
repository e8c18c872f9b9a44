"""The paper's experiments as one table, and as the YAML files that `--config NAME` reads."""
