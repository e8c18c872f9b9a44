"""The study: what PLD from a cache gives on real photos, planned, run, recorded and told.

It launches the project's own commands, so that a user can make each figure again, and imports neither stage.
"""
