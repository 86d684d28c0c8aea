"""The companion as the one process of a container: ``python -m lavise_service.companion``."""

import sys

from lavise.errors import LaviseError
from lavise_service.companion.lifecycle import run
from lavise_service.companion.settings import Settings

if __name__ == "__main__":
    try:
        run(Settings())
    except LaviseError as error:
        sys.exit(f"lavise companion: {error}")
