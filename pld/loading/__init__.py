"""Images on their way to a model: fetching shards ahead, worker processes, decoding views."""
