"""One run from its command to its folder."""
