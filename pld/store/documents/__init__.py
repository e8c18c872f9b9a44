"""A store's JSON documents: manifest, commits, seals, probes, and where they lie."""
