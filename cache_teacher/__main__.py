"""`cache-teacher`, and `accelerate launch -m cache_teacher`."""

from cache_teacher.cache import main as cache_main
from pld.config import run


def main() -> int:
    """Exit status of the command."""
    return run(cache_main)


if __name__ == "__main__":
    raise SystemExit(main())
