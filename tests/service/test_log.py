from lavise_service.torchserve.log import failure, last_lines

START = [
    "Model server started.",
    "2026-11-23T23:05:54,393 INFO  MODEL_LOG - Torch worker started.",
]


def worker(*lines: str) -> list[str]:
    return [f"2026-11-23T23:05:54,400 INFO  MODEL_LOG - {line}" for line in lines]


def test_a_healthy_log_has_no_failure() -> None:
    assert failure(START) is None
    assert failure([]) is None


def test_the_exception_is_shown_without_its_frames() -> None:
    died = worker(
        "Backend worker process died.",
        "Traceback (most recent call last):",
        '  File "handler.py", line 9, in initialize',
        "    1 / 0",
        "ZeroDivisionError: division by zero",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "Traceback (most recent call last):",
        '  File "handler.py", line 10, in initialize',
        "    raise BundleError(text)",
        "lavise.errors.BundleError: cnn.onnx is damaged",
        "copy the bundle again",
    )
    told = failure(START + died) or ""
    assert told.endswith("\nlavise.errors.BundleError: cnn.onnx is damaged\ncopy the bundle again")
    assert "ZeroDivisionError" not in told


def test_what_torchserve_only_repeats_is_not_shown() -> None:
    caught = worker(
        "Failed to load model lavise, exception no CUDA",
        "Traceback (most recent call last):",
        '  File "handler.py", line 9, in initialize',
        "    start()",
        "RuntimeError: no CUDA",
        "Backend worker process died.",
        "Traceback (most recent call last):",
        '  File "model_service_worker.py", line 301, in <module>',
        "    worker.run_server()",
        "RuntimeError: 500 - Unknown exception",
    )
    assert (failure(START + caught) or "").splitlines()[1:] == ["RuntimeError: no CUDA"]


def test_a_worker_that_dies_without_a_word_shows_the_end_of_the_log() -> None:
    died = ["2026 WARN  BatchAggregator - Load model failed: lavise, error: Worker died."]
    assert "Torch worker started." in (failure(START + died) or "")


def test_an_empty_log_says_so() -> None:
    assert last_lines([]) == "(it said nothing)"
