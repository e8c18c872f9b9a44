"""`cache-teacher`, and `accelerate launch -m cache_teacher`."""

from cache_teacher.cache import main as cache_main
from pld.buffer_pool import keep_freed_memory
from pld.config import run


def main() -> int:
    """Exit status of the command."""
    keep_freed_memory()
    return run(cache_main)


if __name__ == "__main__":
    raise SystemExit(main())
