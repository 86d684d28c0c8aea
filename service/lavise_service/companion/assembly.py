"""The parts of a companion, made from its settings."""

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final, Self

from lavise_service.companion.caller_limits import CallerLimits
from lavise_service.companion.certificates import expiry
from lavise_service.companion.comparisons import Comparisons
from lavise_service.companion.health import Readiness
from lavise_service.companion.image_sets import ImageSets
from lavise_service.companion.in_flight import InFlight
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.settings import Settings
from lavise_service.companion.slots import Slots
from lavise_service.companion.store import Store, open_store
from lavise_service.companion.tls import ClientTls, Tls
from lavise_service.companion.tokens import Tokens
from lavise_service.companion.upstream import Upstream
from lavise_service.companion.uris import UriImages

_PAGES_AT_ONCE: Final = 4
"""Each sends some twenty images for its heat maps, in turn: more of them would come without any."""


@dataclass(kw_only=True)
class Companion:
    """What the doors are made from.

    Attributes:
        settings: What was asked for.
        metrics: What Prometheus sees.
        upstream: TorchServe.
        tokens: Who may ask.
        caller_limits: How much each of them may.
        tls: Certificates; None where the doors speak in clear.
        explains: How many calls of Explainer at a time, over both doors.
        pages: How many report pages are drawn at a time.
        uploads: How many image sets are taken in at a time, over both doors.
        store: What is kept.
        uris: Reads the folders that clients may name.
        image_sets: The image sets.
        comparisons: The comparisons.
        readiness: Whether predictions work.
        in_flight: What is worked on, and whether it is about to end.
    """

    settings: Settings
    metrics: Metrics
    upstream: Upstream
    tokens: Tokens
    tls: Tls | None
    caller_limits: CallerLimits
    explains: Slots
    pages: Slots
    uploads: Slots
    readiness: Readiness
    store: Store
    uris: UriImages
    image_sets: ImageSets
    comparisons: Comparisons
    in_flight: InFlight = field(default_factory=InFlight, init=False)

    @classmethod
    def assemble(cls, settings: Settings) -> Self:
        """Makes the parts; call it inside the event loop.

        Raises:
            SpecError: A file, or the store, that the settings name cannot be used.
            EnvironmentProblem: The store is not there, or cannot be written to.
        """
        tls = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            tls = Tls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
            tls.check()
        tokens = Tokens(settings.tokens_file, settings.tokens)
        metrics = Metrics()
        upstream = Upstream(
            str(settings.torchserve),
            model=settings.model,
            timeout_s=settings.explain_timeout_s,
            metrics=metrics,
            tls=_to_torchserve(settings),
        )
        store = open_store(settings, metrics.store)
        days = settings.retention_days
        return cls(
            settings=settings,
            metrics=metrics,
            upstream=upstream,
            tokens=tokens,
            tls=tls,
            caller_limits=CallerLimits(
                per_second=settings.max_caller_calls_per_second,
                concurrent=settings.max_caller_concurrent_calls,
            ),
            explains=Slots(settings.max_concurrent_explains, "explain calls"),
            pages=Slots(_PAGES_AT_ONCE, "report pages"),
            uploads=Slots(settings.max_concurrent_uploads, "image sets"),
            readiness=Readiness(upstream, metrics),
            store=store,
            uris=UriImages(settings),
            image_sets=ImageSets(store, upstream, settings, metrics),
            comparisons=Comparisons(
                store, retention=timedelta(days=days) if days else None, metrics=metrics
            ),
        )

    def __post_init__(self) -> None:
        limited = {"explains": self.explains, "pages": self.pages, "uploads": self.uploads}
        for name, slots in limited.items():
            self.metrics.watch_slots(name, slots.limit, partial(getattr, slots, "taken"))
        certificates = {"server": self.settings.tls_cert, "client": self.settings.torchserve_cert}
        for name, file in certificates.items():
            if file is not None:
                self.metrics.watch_certificate(name, partial(expiry, file))

    async def close(self) -> None:
        """Lets go of what the parts hold."""
        await self.comparisons.close()
        await self.upstream.close()


def _to_torchserve(settings: Settings) -> ClientTls | None:
    """Certificates of the way to TorchServe; None where it is in clear."""
    if settings.torchserve_ca is None:
        return None
    return ClientTls(settings.torchserve_ca, settings.torchserve_cert, settings.torchserve_key)
