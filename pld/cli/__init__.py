"""The `pld` command: everything around a store, one module for each subcommand."""
