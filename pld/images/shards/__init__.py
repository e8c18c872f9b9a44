"""Write any dataset as shuffled tar shards: what goes where, the tars' bytes, re-encoding, going on after a stop."""
