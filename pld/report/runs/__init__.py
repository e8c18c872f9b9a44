"""Run folders: reading them, grouping them, their statistics."""
