"""Logs as JSON lines, each with the id of the request that it belongs to.

The code logs through the standard library; structlog only writes the lines. What is logged about
a request is its method, how it ended and how long it took: never an image, a token, or a header.
"""

import logging
import sys
from typing import Any, Final, TextIO

import orjson
import structlog

# What they say of every start and request, the companion says itself.
_CHATTY: Final = ("httpx", "uvicorn")


def configure_logging(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Sends every log of the process to a stream, a JSON object a line.

    Args:
        stream: Standard error when left out.
        level: Of the least important lines.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                structlog.processors.format_exc_info,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_line),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _line(event: dict[str, Any], **_: Any) -> str:  # noqa: ANN401 - json.dumps's own options
    text = orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)
    return text.decode()
