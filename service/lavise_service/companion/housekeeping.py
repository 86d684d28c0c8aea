"""What a companion does unasked: ends broken comparisons, removes what expired, stays small."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from lavise.heap import trim_heap
from lavise_service.companion.comparisons import Comparisons
from lavise_service.companion.store import Store

_EVERY_S: Final = 600.0
_TRIM_EVERY_S: Final = 5.0
_log = logging.getLogger(__name__)


async def keep_house(store: Store, comparisons: Comparisons) -> None:
    """Works until cancelled; what goes wrong is logged and tried again later.

    Args:
        store: Is swept.
        comparisons: Those that another process left unfinished are taken up once.
    """
    interrupted = True
    while True:
        try:
            if interrupted:
                await comparisons.take_up()
                interrupted = False
            removed = await asyncio.to_thread(store.sweep, datetime.now(UTC))
            if removed:
                _log.info("removed what had expired", extra={"count": removed})
        except Exception:  # noqa: BLE001 - the store may be away; the doors must stay open
            _log.exception("housekeeping failed; it is tried again")
        await asyncio.sleep(_EVERY_S)


async def keep_small() -> None:
    """Gives back what a burst of calls took, until cancelled; a process that grows is restarted."""
    while True:
        await asyncio.sleep(_TRIM_EVERY_S)
        try:
            await asyncio.to_thread(trim_heap)
        except RuntimeError:  # no thread to be had just now
            _log.exception("memory was not given back; it is tried again")
