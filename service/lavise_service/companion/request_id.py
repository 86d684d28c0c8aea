"""What the log calls a request: the caller's own name for it, or one made up."""

import re
import uuid
from typing import Final

HEADER: Final = "x-request-id"
_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def request_id_from(sent: str | bytes | None) -> str:
    """Returns the id of a request.

    Args:
        sent: The header ``x-request-id``, if any. It goes into logs and headers, so anything but
            1 to 128 plain characters is replaced.
    """
    text = sent.decode("latin-1") if isinstance(sent, bytes) else sent or ""
    return text if _ACCEPTED.fullmatch(text) else uuid.uuid4().hex
