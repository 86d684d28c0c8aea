"""The dashboard that an on-call person opens first: does it serve, how well, what is full."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from scripts.dashboards.panels import IN, RATE, board, lines, number, quantiles, row

CALLS = f'{IN},method!~"/grpc.health.*|GET /(healthz|readyz|metrics)"'
OURS = 'code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DEADLINE_EXCEEDED|5.."'
EXPLAIN = f'{IN},method=~"/lavise.v1.Explainer/Explain|POST /v1/explain"'
# Uploads take as long as their sender likes; Compare answers until the comparison ends.
LONG = ".*/(UploadImageSet|ImportImageSet|Compare)|POST /v1/imageSets|.*reflection.*"
SHORT = f'{CALLS},method!~"{LONG}"'
REQUESTS = "lavise_companion_requests_total"
BUCKETS = "lavise_companion_request_seconds_bucket"
FAILURES = "lavise_companion_torchserve_failures_total"
COMPANION = f'job="lavise-companion",{IN}'


def overview() -> Dashboard:
    """The service as callers find it."""
    made = board(
        "lavise-overview", "LaViSE: overview", "Does the service answer, well and in time?"
    )
    row(
        made,
        "In ten seconds",
        number(
            "Ready companions",
            "Companions whose last proof, a real image through TorchServe, succeeded. Red: none.",
            f"sum(lavise_companion_ready{{{IN}}})",
            unit="short",
            alarming=1,
            below=True,
        ),
        number(
            "Alerts",
            "Alerts of LaViSE that are firing; docs/operations-monitoring.md says what to do.",
            'count(ALERTS{alertname=~"Lavise.*",alertstate="firing"}) or vector(0)',
            unit="short",
            alarming=1,
        ),
        number(
            "Calls",
            "Calls a second over both doors, without health, readiness and scrapes.",
            f"sum(rate({REQUESTS}{{{CALLS}}}[{RATE}]))",
            unit="reqps",
        ),
        number(
            "Errors",
            "Share of calls that fail by the service's own fault. The objective is 0.5 %.",
            f"(sum(rate({REQUESTS}{{{CALLS},{OURS}}}[{RATE}])) or vector(0))"
            f" / sum(rate({REQUESTS}{{{CALLS}}}[{RATE}]))",
            unit="percentunit",
            alarming=0.005,
            decimals=2,
        ),
        number(
            "Explain, p95",
            "Nineteen of twenty Explain calls take at most so long.",
            quantiles(BUCKETS, EXPLAIN),
            unit="s",
            alarming=2.5,
        ),
        number(
            "Queue",
            "How long the latest requests waited in TorchServe, on average over the workers.",
            f'avg(avg_over_time(QueueTime{{job="lavise-worker",{IN}}}[1m])) / 1000',
            unit="s",
            alarming=0.5,
        ),
    )
    row(
        made,
        "Rate, errors, duration",
        lines(
            "Calls by method",
            "Calls a second. The name tells the door: gRPC's begin with a slash.",
            (f"sum by (method) (rate({REQUESTS}{{{CALLS}}}[{RATE}]))", "{{method}}"),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Answers that are no success, by code",
            "UNAVAILABLE and 503: TorchServe or the store. INTERNAL and 500: a fault of the code. "
            "INVALID_ARGUMENT and 4xx: the caller's.",
            (
                f'sum by (door, code) (rate({REQUESTS}{{{CALLS},code!~"OK|2..|3.."}}[{RATE}]))',
                "{{door}} {{code}}",
            ),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Duration by method, p95",
            "Without uploads and Compare, which take as long as they are large.",
            (quantiles(BUCKETS, SHORT, ("method",)), "{{method}}"),
            unit="s",
        ),
    )
    row(
        made,
        "What is full",
        lines(
            "Slots in use",
            "Share of the explain calls, uploads and comparisons that there may be at a time. "
            "At 100 % callers are refused.",
            (
                (
                    f"max by (slots) (lavise_companion_slots_in_use{{{IN}}}"
                    f" / lavise_companion_slots_limit{{{IN}}})"
                ),
                "{{slots}}",
            ),
            unit="percentunit",
            most=1,
        ),
        lines(
            "Turned away, by reason",
            "concurrency and rate: a limit is met. unauthenticated: no valid token. size and slow: "
            "what is sent. permission: a URI that is not allowed. store: no room.",
            (
                f"sum by (reason) (rate(lavise_companion_refusals_total{{{IN}}}[{RATE}]))",
                "{{reason}}",
            ),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Calls being worked on",
            "By door. A line that only climbs: calls do not end.",
            (f"sum by (door) (lavise_companion_requests_in_flight{{{IN}}})", "{{door}}"),
            unit="short",
        ),
    )
    row(
        made,
        "TorchServe, as the companion finds it",
        lines(
            "Calls to TorchServe, p95",
            "Each attempt, with its wait in the queue: what is longer than a batch is the queue.",
            (
                quantiles("lavise_companion_torchserve_seconds_bucket", IN, ("call",)),
                "{{call}}",
            ),
            unit="s",
        ),
        lines(
            "Calls that failed, and were sent again",
            "By gRPC code, and the repetitions: a worker died, or a TorchServe went away.",
            (
                f"sum by (reason) (rate({FAILURES}{{{IN}}}[{RATE}]))",
                "{{reason}}",
            ),
            (f"sum(rate(lavise_companion_torchserve_retries_total{{{IN}}}[{RATE}]))", "sent again"),
            unit="reqps",
        ),
        lines(
            "Ready, by companion",
            "1 while real predictions work, 0 while they do not or it is on its way out.",
            (f"lavise_companion_ready{{{IN}}}", "{{instance}}"),
            unit="short",
            most=1,
        ),
    )
    row(
        made,
        "The companion's process",
        lines(
            "CPU",
            "Seconds a second; the loop has one core, comparisons take more.",
            (f"rate(process_cpu_seconds_total{{{COMPANION}}}[{RATE}])", "{{instance}}"),
            unit="short",
        ),
        lines(
            "Memory",
            "Resident. It breathes with uploads and comparisons; a floor that rises is a leak.",
            (f"process_resident_memory_bytes{{{COMPANION}}}", "{{instance}}"),
            unit="bytes",
        ),
        lines(
            "Open files",
            "Share of the descriptors that it may open: connections, above all.",
            (
                f"process_open_fds{{{COMPANION}}} / process_max_fds{{{COMPANION}}}",
                "{{instance}}",
            ),
            unit="percentunit",
            most=1,
        ),
        lines(
            "Certificates",
            "How long those are still valid that the companion shows: to callers, to TorchServe. "
            "Nothing: it speaks in clear.",
            (
                f"lavise_companion_certificate_expiry_timestamp_seconds{{{IN}}} - time()",
                "{{instance}} {{certificate}}",
            ),
            unit="s",
        ),
    )
    return made
