"""Bodies that only say what is wanted, and so are never long, whatever their path takes else."""

from typing import Final

from starlette.requests import Request

from lavise_service.companion.problems import TooLarge

_MOST_BYTES: Final = 64 * 1024


async def short_body(request: Request) -> bytes:
    """Reads a body of JSON.

    Args:
        request: The request, its body not read yet.

    Raises:
        TooLarge: It is longer than any such request. Millions of empty lists would take a hundred
            times their own size in memory.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise TooLarge(f"the body is too large; accepted: up to {_MOST_BYTES:,} bytes of JSON")
    return bytes(body)
