"""`cache-teacher`, and `accelerate launch -m cache_teacher`."""

from collections.abc import Sequence

from pld.logs import showing_logs
from pld.process.stopping import Stopping


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of the command; `argv` is the command line's if it is not given."""
    with showing_logs(), Stopping("the parts that are written are kept"):
        # These take seconds, in which signals are handled already.
        from cache_teacher.cache import main as cache_main
        from pld.buffer_pool import keep_freed_memory
        from pld.config import run

        keep_freed_memory()
        return run(cache_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
