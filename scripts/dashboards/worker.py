"""The dashboard of TorchServe and its workers: where the time of a request goes."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from scripts.dashboards.panels import IN, RATE, board, lines, number, quantiles, row

QUEUE = f'QueueTime{{job="lavise-worker",{IN}}}'
BATCHES = f"rate(lavise_batch_seconds_count{{{IN}}}[{RATE}])"
REQUESTS = f"rate(lavise_requests_total{{{IN}}}[{RATE}])"


def worker() -> Dashboard:
    """TorchServe and its workers."""
    made = board("lavise-worker", "LaViSE: worker", "Where does the time of a request go?")
    row(
        made,
        "In ten seconds",
        number(
            "Workers' pods",
            "TorchServes that Prometheus reaches. Red: none.",
            f'sum(up{{job="lavise-worker",{IN}}})',
            unit="short",
            alarming=1,
            below=True,
        ),
        number(
            "Images",
            "Images a second, over all doors.",
            f"sum(rate(lavise_images_total{{{IN}}}[{RATE}]))",
            unit="short",
            decimals=1,
        ),
        number(
            "Queue",
            "How long the latest requests waited for a worker, on average. The chart's autoscaler "
            "aims at 0.2 s.",
            f"avg(avg_over_time({QUEUE}[1m])) / 1000",
            unit="s",
            alarming=0.5,
        ),
        number(
            "Requests a batch",
            "1: nobody waits. The archive's batch size: workers are full.",
            f"sum({REQUESTS}) / sum({BATCHES})",
            unit="short",
            decimals=1,
        ),
        number(
            "Batch, p95",
            "Nineteen of twenty batches take at most so long.",
            quantiles("lavise_batch_seconds_bucket", IN),
            unit="s",
        ),
        number(
            "Faults",
            "Requests a minute that fail in the worker in a way nobody foresaw. The log has the "
            "traceback.",
            f'60 * sum(rate(lavise_errors_total{{{IN},Kind="INTERNAL"}}[{RATE}]))',
            unit="short",
            alarming=0.001,
        ),
    )
    row(
        made,
        "Queue and batches",
        lines(
            "Queue",
            "How long the latest request waited in each TorchServe, gRPC's included.",
            (f"{QUEUE} / 1000", "{{instance}}"),
            unit="s",
        ),
        lines(
            "Requests a batch",
            "On average. Larger batches are slower each and faster in all.",
            (f"sum by (instance) ({REQUESTS}) / sum by (instance) ({BATCHES})", "{{instance}}"),
            unit="short",
        ),
        lines(
            "Requests, images, filters",
            "A second: what was asked, decoded, explained.",
            (f"sum({REQUESTS})", "requests"),
            (f"sum(rate(lavise_images_total{{{IN}}}[{RATE}]))", "images"),
            (f"sum(rate(lavise_filters_explained_total{{{IN}}}[{RATE}]))", "filters"),
            unit="short",
        ),
    )
    row(
        made,
        "Stages",
        lines(
            "Where a batch's time goes",
            "Seconds a batch spends in each stage, on average: decode (images), words, and "
            "profile (of image sets), the last two with the CNN.",
            (
                (
                    f"sum by (Stage) (rate(lavise_stage_seconds_sum{{{IN}}}[{RATE}]))"
                    f" / ignoring (Stage) group_left sum({BATCHES})"
                ),
                "{{Stage}}",
            ),
            unit="s",
            stacked=True,
        ),
        lines(
            "Stages, p95",
            "By batch in which the stage ran. TorchServe's buckets end at 10 s and begin at 5 ms.",
            (quantiles("lavise_stage_seconds_bucket", IN, ("Stage",)), "{{Stage}}"),
            unit="s",
        ),
        lines(
            "Errors by kind",
            "Requests a second that were refused or failed. INVALID_ARGUMENT is the caller's; "
            "INTERNAL is ours.",
            (f"sum by (Kind) (rate(lavise_errors_total{{{IN}}}[{RATE}]))", "{{Kind}}"),
            unit="reqps",
            stacked=True,
        ),
    )
    row(
        made,
        "Processes",
        lines(
            "Memory",
            "Resident: of the worker processes together, and of TorchServe's JVM (heap at most "
            "1 GiB). A floor that rises is a leak.",
            (f"lavise_worker_memory_bytes{{{IN}}}", "{{instance}} workers"),
            (f"lavise_java_memory_bytes{{{IN}}}", "{{instance}} JVM"),
            unit="bytes",
        ),
        lines(
            "CPU of the workers",
            "Seconds a second, of all threads. At the number of cores, or of threads that the "
            "archive was packed with, they are full.",
            (
                f"sum by (instance) (rate(lavise_worker_cpu_seconds_total{{{IN}}}[{RATE}]))",
                "{{instance}}",
            ),
            unit="short",
        ),
        lines(
            "Time to load",
            "How long a worker took to start. A new value means that one was started again.",
            (f'WorkerLoadTime{{job="lavise-worker",{IN}}} / 1000', "{{instance}} {{WorkerName}}"),
            unit="s",
        ),
    )
    row(
        made,
        "GPU (where there is one)",
        lines(
            "Memory of the GPU",
            "Share in use, by whomever: ONNX Runtime keeps what it once took.",
            (
                f"lavise_gpu_memory_used_bytes{{{IN}}} / lavise_gpu_memory_total_bytes{{{IN}}}",
                "{{instance}} GPU {{DeviceId}}",
            ),
            unit="percentunit",
            most=1,
        ),
        lines(
            "Utilisation of the GPU",
            "Share of the last second or so in which a kernel ran. Low with a long queue: the "
            "images are not decoded fast enough.",
            (f"lavise_gpu_utilization_ratio{{{IN}}}", "{{instance}} GPU {{DeviceId}}"),
            unit="percentunit",
            most=1,
        ),
    )
    return made
