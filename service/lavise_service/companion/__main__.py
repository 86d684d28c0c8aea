"""The companion as the one process of a container: ``python -m lavise_service.companion``."""

import signal
import sys


def main() -> None:
    """Serves until SIGTERM; ends the process with a line where it cannot."""
    from lavise.errors import LaviseError
    from lavise_service.companion.lifecycle import run
    from lavise_service.companion.settings import Settings

    try:
        run(Settings())
    except LaviseError as error:
        sys.exit(f"lavise companion: {error}")


if __name__ == "__main__":
    # Process 1 of a container ignores what it has no handler for: while all of this is imported,
    # too. The companion sets its own.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    main()
