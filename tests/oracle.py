"""The method in plain loops and double precision, straight from the equations. Slow on purpose."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from lavise.mapper import MapperWeights
from lavise.words import WordVectors

Vector = list[float]
TINY = 1e-12


def cells_of(feature_map: np.ndarray) -> list[Vector]:
    """(C, H, W) to C lists of N cells."""
    return [[float(x) for x in channel.ravel()] for channel in feature_map]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def norm(values: Sequence[float]) -> float:
    return math.sqrt(sum(x * x for x in values))


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def matched_projection(A: list[Vector], f: int, _T: float) -> Vector | None:
    """attention: v_k = sum_x A_k(x) A_f(x)+ / sum_x A_f(x)+."""
    positive = [max(x, 0.0) for x in A[f]]
    area = sum(positive)
    return [dot(channel, positive) / area for channel in A] if area > TINY else None


def paper_attention(A: list[Vector], f: int, _T: float) -> Vector | None:
    """attention-paper: v_k = cos(A_f, A_k) * mean(A_k)."""
    own = norm(A[f])
    if own <= TINY:
        return None
    return [
        dot(A[f], channel) / (own * norm(channel)) * mean(channel) if norm(channel) > TINY else 0.0
        for channel in A
    ]


def code_attention(A: list[Vector], f: int, _T: float) -> Vector | None:
    """attention-code: v_k = mean over space of A_k * A_f / |A_f|."""
    own = norm(A[f])
    if own <= TINY:
        return None
    return [mean([a * b / own for a, b in zip(channel, A[f], strict=True)]) for channel in A]


def activation_mask(A: list[Vector], f: int, T: float) -> Vector | None:
    """activation: the mean over the cells where A_f exceeds T_f."""
    kept = [x for x, a in enumerate(A[f]) if a > T]
    return [mean([channel[x] for x in kept]) for channel in A] if kept else None


def whole_image(A: list[Vector], _f: int, _T: float) -> Vector | None:
    """original: the mean over space."""
    return [mean(channel) for channel in A]


FEATURES: dict[str, Callable[[list[Vector], int, float], Vector | None]] = {
    "attention": matched_projection,
    "attention-paper": paper_attention,
    "attention-code": code_attention,
    "activation": activation_mask,
    "original": whole_image,
}


def linear(v: Vector, W: np.ndarray, b: np.ndarray) -> Vector:
    """v·W + b for W (in, out)."""
    return [float(b[j]) + sum(v[i] * float(W[i, j]) for i in range(len(v))) for j in range(len(b))]


def softmax(logits: Vector) -> Vector:
    top = max(logits)
    raised = [math.exp(x - top) for x in logits]
    return [x / sum(raised) for x in raised]


def map_feature(mapper: MapperWeights, v: Vector) -> Vector:
    """g(v) of either form."""
    first = linear(v, mapper.W_first, mapper.b_first)
    own, hidden = first[: mapper.n_own], [max(x, 0.0) for x in first[mapper.n_own :]]
    second = linear(hidden, mapper.W_second, mapper.b_second) if mapper.n_hidden else []
    if mapper.form == "regression":
        return second
    posterior = softmax([*own, *second])
    dimension = mapper.E.shape[1]
    return [
        sum(p * float(mapper.E[i, d]) for i, p in enumerate(posterior)) for d in range(dimension)
    ]


def posterior_of(mapper: MapperWeights, v: Vector) -> Vector:
    """p(concept | v); nothing for regression."""
    if mapper.form == "regression":
        return []
    first = linear(v, mapper.W_first, mapper.b_first)
    own, hidden = first[: mapper.n_own], [max(x, 0.0) for x in first[mapper.n_own :]]
    second = linear(hidden, mapper.W_second, mapper.b_second) if mapper.n_hidden else []
    return softmax([*own, *second])


def word_scores(
    mapper: MapperWeights,
    v: Vector,
    vocabulary: np.ndarray,
    kin: Sequence[dict[int, float]] = (),
) -> np.ndarray:
    """(V,) max(cos(g, w), 1 + 0.05 log p(c) - h) over the 8 best concepts c that speak for w.

    h is 0 for the word that names c, and 0.1 (1 - log s) for its kin, by their nearness s.
    """
    found = cosines(map_feature(mapper, v), vocabulary)
    posterior = posterior_of(mapper, v)
    for c in sorted(range(len(posterior)), key=lambda c: -posterior[c])[:8]:
        near = [dot([float(x) for x in mapper.E[c]], [float(x) for x in w]) for w in vocabulary]
        word = max(range(len(near)), key=lambda i: near[i])
        if near[word] >= 0.8:
            found[word] = max(found[word], 1 + 0.05 * math.log(max(posterior[c], TINY)))
        for word, s in kin[c].items() if kin else ():
            said = 1 + 0.05 * math.log(max(posterior[c], TINY)) - 0.1 * (1 - math.log(s))
            found[word] = max(found[word], said)
    return found


def strange_words(vectors: np.ndarray) -> WordVectors:
    """Words that WordNet does not know."""
    return WordVectors([f"xq{i}" for i in range(len(vectors))], vectors.astype(np.float32))


def cosines(g: Vector, vocabulary: np.ndarray) -> np.ndarray:
    """(V,) cosine of g to each unit word vector."""
    length = norm(g)
    if length <= TINY:
        return np.zeros(len(vocabulary))
    return np.array([dot(g, [float(x) for x in word]) / length for word in vocabulary])


def scores(
    feature_map: np.ndarray,
    f: int,
    mapper: MapperWeights,
    vocabulary: np.ndarray,
    method: str,
    threshold: float = 0.0,
    kin: Sequence[dict[int, float]] = (),
) -> tuple[np.ndarray, float] | None:
    """(V,) scores of all words for one filter on one image, and how far float32 may be off.

    None where the filter is inactive. The direction of a short g(v) is uncertain.
    """
    v = FEATURES[method](cells_of(feature_map), f, threshold)
    if v is None:
        return None
    g = map_feature(mapper, v)
    return word_scores(mapper, v, vocabulary, kin), 1e-4 * (1 + 1 / max(norm(g), 1e-9))


def random_mapper(
    rng: np.random.Generator, channels: int, dimension: int, kind: str
) -> MapperWeights:
    """A mapper of some kind: own, taught, both, or regression; sizes are drawn."""
    n_own = int(rng.integers(1, 6)) if kind in {"own", "both"} else 0
    n_hidden = 0 if kind == "own" else int(rng.integers(1, 7))
    out = dimension if kind == "regression" else 0 if kind == "own" else int(rng.integers(1, 8))
    n_concepts = 0 if kind == "regression" else n_own + out

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return MapperWeights(
        form="regression" if kind == "regression" else "concepts",
        n_own=n_own,
        n_hidden=n_hidden,
        W_first=draw(channels, n_own + n_hidden),
        b_first=draw(n_own + n_hidden),
        W_second=draw(n_hidden, out),
        b_second=draw(out),
        E=unit_rows(draw(n_concepts, dimension)),
        concepts=tuple(f"concept {i}" for i in range(n_concepts)),
    )


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30))


MAPPER_KINDS = ("own", "taught", "both", "regression")


def profile_scores(
    feature_map: np.ndarray, mapper: MapperWeights, vocabulary: np.ndarray, temperature: float
) -> tuple[np.ndarray, float]:
    """(V,) max over cells of softmax(cosine / T), each cell the mean of its 3 x 3; least |g(v)|."""
    channels, height, width = feature_map.shape
    best = [0.0] * len(vocabulary)
    shortest = math.inf
    for y in range(height):
        for x in range(width):
            near = [
                (i, j)
                for i in range(max(0, y - 1), min(height, y + 2))
                for j in range(max(0, x - 1), min(width, x + 2))
            ]
            v = [mean([float(feature_map[c, i, j]) for i, j in near]) for c in range(channels)]
            g = map_feature(mapper, v)
            shortest = min(shortest, norm(g))
            shares = softmax([c / temperature for c in cosines(g, vocabulary)])
            best = [max(a, b) for a, b in zip(best, shares, strict=True)]
    return np.array(best), shortest
