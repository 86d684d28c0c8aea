"""A report with the numbers of a real comparison, made by code."""

from collections.abc import Sequence

from lavise.v1.bias_pb2 import (
    Duplicate,
    Example,
    FilterDifference,
    Finding,
    Report,
    Side,
    WordDifference,
)

GROUPS: Sequence[tuple[Sequence[str], float, bool]] = (
    (("lantern", "lamp", "candle", "flashlight"), 0.127, True),
    (("bicycle", "wheel", "scooter"), -0.094, True),
    (("guitar", "banjo", "violin", "cello", "fiddle", "harp", "lute"), 0.061, True),
    (("mushroom",), -0.048, True),
    (("umbrella", "parasol"), 0.031, False),
)
TENDENCIES: Sequence[tuple[str, float]] = (
    ("kettle", 0.024),
    ("tent", -0.022),
    ("owl", 0.019),
    ("harbour", -0.017),
    ("cactus", 0.013),
)


def sample_report(*, catalog: bool = True, more_words: int = 0) -> Report:
    """Two sets of 200 and 180 images: four findings, a tendency, nine filters, two duplicates."""
    report = Report(
        a=Side(
            name="imageSets/night-shift",
            display_name="Night shift",
            image_count=200,
            rejected_count=3,
        ),
        b=Side(name="imageSets/day-shift", display_name="Day shift", image_count=180),
        layer="features",
        bundle_digest="sha256:" + "4f2a9c17" * 8,
        alpha=0.05,
        seed=7,
        permutations=1000,
        caveats=["2 images are in both sets: they make the sets look more alike than they are."],
        duplicates=[
            Duplicate(source_a="night/kitchen_014.jpg", source_b="day/kitchen_014 (copy).jpg"),
            Duplicate(source_a="night/IMG_2231.JPG", source_b="day/IMG_2231.JPG"),
        ],
        duplicate_count=2,
    )
    for number, (words, difference, significant) in enumerate(GROUPS):
        p = 0.001 * (1 + 9 * number) if significant else 0.31
        report.findings.append(
            Finding(
                words=words,
                filters=[843 + number, 12 + number] if catalog else [],
                difference=difference,
                p_value=p,
                significant=significant,
            )
        )
        for rank, word in enumerate(words):
            report.words.append(
                _word(
                    word,
                    difference * 0.86**rank,
                    significant=significant,
                    p=p,
                    first=number * 10,
                    qualified=catalog and rank == 0,
                )
            )
    fillers = [(f"word{n:03}", 0.012 * 0.98**n * (-1) ** n) for n in range(more_words)]
    for word, difference in (*TENDENCIES, *fillers):
        report.words.append(
            _word(word, difference, significant=False, p=0.8, first=60, qualified=False)
        )
    for number in range(9):
        report.filters.append(_filter(number, catalog=catalog))
    report.significant_words = sum(one.significant for one in report.words)
    report.significant_filters = sum(one.significant for one in report.filters)
    return report


def equal_report() -> Report:
    """Two sets between which nothing differs, in which the comparison found nothing to group."""
    report = sample_report()
    del report.findings[:]
    del report.duplicates[:]
    report.duplicate_count = 0
    for word in report.words:
        word.significant = False
        word.difference *= 0.1
        word.low, word.high = word.difference - 0.02, word.difference + 0.02
    for one in report.filters:
        one.significant = False
        one.auroc = 0.5 + (one.auroc - 0.5) * 0.1
        one.q_value = 0.9
        one.rate_a = one.rate_b = 0.11
        one.difference, one.low, one.high = 0.0, -0.06, 0.06
    report.significant_words = report.significant_filters = 0
    return report


def _examples(first: int, value: float) -> list[Example]:
    return [
        Example(
            source=f"shift/camera-2/frame_{first + n:05}.jpg",
            index=first + n,
            value=value * 0.93**n,
        )
        for n in range(5)
    ]


def _word(
    word: str, difference: float, *, significant: bool, p: float, first: int, qualified: bool
) -> WordDifference:
    half = 0.6 * abs(difference) if significant else 1.4 * abs(difference) + 0.008
    low_mean = 0.05 + abs(difference) / 3
    high_mean = low_mean + abs(difference)
    one = WordDifference(
        word=word,
        layer="features",
        mean_a=high_mean if difference > 0 else low_mean,
        mean_b=low_mean if difference > 0 else high_mean,
        difference=difference,
        low=difference - half,
        high=difference + half,
        p_value=p,
        significant=significant,
        n_a=200,
        n_b=180,
        examples_a=_examples(first, 0.97 if difference > 0 else 0.55),
        examples_b=_examples(first + 5, 0.96 if difference < 0 else 0.58),
    )
    if qualified:
        one.qualified_a, one.qualified_b = (0.27, 0.06) if difference > 0 else (0.05, 0.22)
    return one


def _filter(number: int, *, catalog: bool) -> FilterDifference:
    more_in_a = number % 3 != 1
    lean = 0.21 * 0.88**number * (1 if more_in_a else -1)
    one = FilterDifference(
        layer="features",
        index=843 + number,
        auroc=0.5 + lean,
        q_value=0.0001 * 3**number,
        significant=0.0001 * 3**number <= 0.025,
        n_a=200,
        n_b=180,
        examples_a=_examples(number % 5 * 10, 6.0 if more_in_a else 2.8),
        examples_b=_examples(number % 5 * 10 + 5, 2.9 if more_in_a else 5.9),
    )
    if catalog:
        words = GROUPS[number % len(GROUPS)][0]
        one.rate_a, one.rate_b = (0.26, 0.06) if more_in_a else (0.04, 0.19)
        one.difference = one.rate_a - one.rate_b
        one.low, one.high = one.difference - 0.07, one.difference + 0.07
        one.verdict = "uninterpretable" if number == 3 else "described"
        one.catalog_words.extend(words)
    return one
