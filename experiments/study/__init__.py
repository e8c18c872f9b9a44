"""The study: what PLD from a cache gives on real photos, as trials that the project's own commands run."""
