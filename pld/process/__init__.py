"""A process of a command: what asks it to stop, and whether one that holds a lock is still alive."""
