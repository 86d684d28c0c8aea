"""The dashboard of image sets, comparisons, and the store that holds them."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from scripts.dashboards.panels import IN, RATE, board, lines, number, quantiles, row

IMAGES = f"lavise_companion_images_total{{{IN}}}"
UPLOADS = f'{IN},method=~".*(UploadImageSet|ImportImageSet)|POST /v1/imageSets"'
OPERATIONS = "lavise_companion_store_operation_seconds"
PROGRESS = f"lavise_companion_comparison_progress_ratio{{{IN}}}"


def image_sets() -> Dashboard:
    """Image sets, comparisons and the store."""
    made = board(
        "lavise-image-sets",
        "LaViSE: image sets and comparisons",
        "Do image sets come in, do comparisons end, does the store keep up?",
    )
    row(
        made,
        "In ten seconds",
        number(
            "Uploads",
            "Image sets that are being taken in.",
            f'sum(lavise_companion_slots_in_use{{{IN},slots="uploads"}})',
            unit="short",
        ),
        number(
            "Images",
            "Images a second that are taken in.",
            f"sum(rate({IMAGES}[{RATE}]))",
            unit="short",
            decimals=1,
        ),
        number(
            "Rejected",
            "Share of the images of the last half hour that cannot be read.",
            f'sum(increase(lavise_companion_images_total{{{IN},outcome="rejected"}}[30m]))'
            f" / sum(increase({IMAGES}[30m]))",
            unit="percentunit",
            alarming=0.5,
        ),
        number(
            "Comparisons unfinished",
            "Waiting, and the one that is worked on. At 32 a companion takes no more.",
            f'sum(lavise_companion_slots_in_use{{{IN},slots="comparisons"}})',
            unit="short",
            alarming=29,
        ),
        number(
            "Comparison, p95",
            "How long the work on a comparison takes, without the wait for its turn.",
            "histogram_quantile(0.95, sum by (le) "
            f"(increase(lavise_companion_comparison_seconds_bucket{{{IN}}}[1h])))",
            unit="s",
        ),
        number(
            "Errors of the store",
            "A minute. Any is one too many: uploads and comparisons fail.",
            f"60 * sum(rate(lavise_companion_store_errors_total{{{IN}}}[{RATE}]))",
            unit="short",
            alarming=0.001,
        ),
    )
    row(
        made,
        "Image sets",
        lines(
            "Images by outcome",
            "A second: accepted, or rejected because they cannot be read.",
            (f"sum by (outcome) (rate({IMAGES}[{RATE}]))", "{{outcome}}"),
            unit="short",
            stacked=True,
        ),
        lines(
            "Uploads that ended, by code",
            "A minute. CANCELLED and 499: the sender went away, and may resume.",
            (
                (
                    "60 * sum by (door, code) "
                    f"(rate(lavise_companion_requests_total{{{UPLOADS}}}[{RATE}]))"
                ),
                "{{door}} {{code}}",
            ),
            unit="short",
            stacked=True,
        ),
        lines(
            "Uploads, p95",
            "From the first byte to the set that is ready.",
            (
                quantiles("lavise_companion_request_seconds_bucket", UPLOADS, ("door",)),
                "{{door}}",
            ),
            unit="s",
        ),
    )
    row(
        made,
        "Comparisons",
        lines(
            "Progress",
            "Share done of the stage that the one comparison is in. Nothing: none is worked on. "
            "Flat: it is stuck.",
            (PROGRESS, "{{instance}} {{stage}}"),
            unit="percentunit",
            most=1,
        ),
        lines(
            "Comparisons that ended, by outcome",
            "An hour. failed ones hold their error; given_up ones were deleted.",
            (
                f"sum by (outcome) (increase(lavise_companion_comparisons_total{{{IN}}}[1h]))",
                "{{outcome}}",
            ),
            unit="short",
            stacked=True,
        ),
        lines(
            "Comparisons, unfinished",
            "Waiting, and the one that is worked on, by companion.",
            (
                f'lavise_companion_slots_in_use{{{IN},slots="comparisons"}}',
                "{{instance}}",
            ),
            unit="short",
        ),
    )
    row(
        made,
        "Store",
        lines(
            "Operations",
            "A second, by kind.",
            (
                f"sum by (operation) (rate({OPERATIONS}_count{{{IN}}}[{RATE}]))",
                "{{operation}}",
            ),
            unit="ops",
        ),
        lines(
            "Duration, p95",
            "A profile that is written piece by piece counts until its last piece.",
            (quantiles(f"{OPERATIONS}_bucket", IN, ("operation",)), "{{operation}}"),
            unit="s",
        ),
        lines(
            "Errors",
            "A second. full: no room. unavailable: the volume or the S3 server.",
            (
                (
                    "sum by (operation, reason) "
                    f"(rate(lavise_companion_store_errors_total{{{IN}}}[{RATE}]))"
                ),
                "{{operation}} {{reason}}",
            ),
            unit="ops",
        ),
        lines(
            "Bytes",
            "A second, of files read (whole or in part) and written.",
            (f"sum(rate(lavise_companion_store_read_bytes_total{{{IN}}}[{RATE}]))", "read"),
            (f"sum(rate(lavise_companion_store_written_bytes_total{{{IN}}}[{RATE}]))", "written"),
            unit="Bps",
        ),
    )
    return made
