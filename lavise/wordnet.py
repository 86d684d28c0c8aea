"""WordNet 3.1's nouns: what a class name means, what it is a kind of, which nouns name things.

Reads ``data/wordnet_nouns.tsv.xz`` once, on first use: a quarter of a second. How the table is
made, and what its columns are, stands in scripts/make_wordnet_table.py.
"""

import functools
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_TABLE = Path(__file__).parent / "data" / "wordnet_nouns.tsv.xz"

# Lexicographer files of what a camera can see: 5 animal, 6 artifact, 8 body, 17 natural object,
# 13 food, 20 plant, 27 substance, 19 natural phenomenon.
# Of senses that WordNet's texts use equally often, mostly never, what a class of images likelier
# means comes first: the otter before its fur, the crayfish before the dish, the fig before the
# fig tree, the oak before its wood, the lantern before the apparition.
_ORDER = {5: 0, 6: 1, 8: 1, 17: 1, 13: 2, 20: 3, 27: 4, 19: 5}
_CONCRETE_FILES = frozenset(_ORDER)
# A word is a concrete noun when at least this share of its tagged uses is concrete. A third keeps
# "plane", "crane" and "seal" and turns away "first", "group" and "back".
_CONCRETE_SHARE = 1 / 3
# Two letters are abbreviations in running text ("os" is a bone, "el" a railway).
_SHORTEST_WORD = 3
# Nouns too, but their word vectors are those of a modal, a preposition or a past tense.
_OTHER_WORDS = frozenset(
    {
        "can",
        "drove",
        "dug",
        "felt",
        "must",
        "sang",
        "shook",
        "spat",
        "spoke",
        "stole",
        "till",
        "tore",
    }
)
# The concrete sense comes first unless one that means a human being is this many times as frequent:
# "man" is not a chess piece and "person" not a body, but "tiger" and "monarch" stay animals.
_PERSON_FILES = frozenset({3, 18})  # 3: the tops of the hierarchies, "person" itself among them
_OUTWEIGHS = 15

# Synsets too wide to tell a person what is seen, by their first lemma.
_TOO_WIDE = (
    "abstraction, act, activity, agent, article, artifact, assembly, attribute, body part, "
    "causal agent, change, chordate, collection, commodity, communication, component, condition, "
    "congener, constituent, consumer goods, creation, device, entity, event, external body part, "
    "fundamental quantity, group, implement, instrumentality, line, living thing, location, "
    "material, matter, measure, natural object, natural phenomenon, object, organism, part, "
    "phenomenon, physical entity, physical phenomenon, physical property, placental, point, "
    "process, property, psychological feature, region, relation, shape, solid, state, structure, "
    "substance, thing, unit, vertebrate, way, whole"
)
_GENERIC = frozenset(_TOO_WIDE.split(", "))

# Plurals that no rule makes; WordNet's index lists the singular alone.
_IRREGULAR = {
    "children": "child",
    "dice": "die",
    "feet": "foot",
    "geese": "goose",
    "lice": "louse",
    "mice": "mouse",
    "oxen": "ox",
    "people": "person",
    "teeth": "tooth",
}
# Endings of plurals, and what the singular has there; the first singular that WordNet knows wins.
_PLURALS = (("men", "man"), ("ves", "f"), ("ves", "fe"), ("ies", "y"), ("s", ""), ("es", ""))
# What follows one of these belongs to the noun before it: "bowl of soup", "man with a hat".
_PREPOSITION = re.compile(r" (?:at|for|from|in|of|on|to|with) ")


@dataclass(frozen=True)
class Sense:
    """One meaning of a noun.

    Attributes:
        lemmas: The names of the meaning in lower case, WordNet's most usual one first.
        concrete: Whether it is something that a camera can see.
        hypernyms: What it is a kind of: (lemmas, steps up), nearest first, each once at its
            shortest distance. Those too wide to name anything ("whole", "artifact") are left
            out; they still count as steps.
    """

    lemmas: tuple[str, ...]
    concrete: bool
    hypernyms: tuple[tuple[tuple[str, ...], int], ...]


@dataclass(frozen=True)
class ClassWords:
    """What WordNet knows of a class or category name.

    Attributes:
        name: The name as it was given.
        noun: The part of it that WordNet has, as WordNet spells it: the whole name ("great white
            shark", "birdhouse" for "bird house") or its head ("shark" for "angry shark").
        whole: Whether ``noun`` stands for the whole name.
        senses: Every meaning of ``noun``, the likeliest for a class first: concrete ones, the
            most frequent first and animals before others where WordNet counts alike; then the
            rest; then proper names. A person leads where that is what the word nearly always
            means ("man").
    """

    name: str
    noun: str
    whole: bool
    senses: tuple[Sense, ...]


class _Member(NamedTuple):
    """A lemma in a synset."""

    written: str  # with WordNet's capitals, spaces for its underscores
    rank: int  # of this sense among the word's noun senses
    uses: int  # in WordNet's tagged texts, in this sense
    other_uses: int  # as a verb, adjective or adverb; 0 unless rank is 1


class _Synset(NamedTuple):
    """A line of the table."""

    file: int
    hypernyms: tuple[int, ...]  # lines of the table
    instance: bool  # a proper name
    members: dict[str, _Member]  # by lemma in lower case, in WordNet's order


@functools.cache
def _table() -> tuple[list[str], dict[str, list[int]]]:
    """The lines, and for every lemma in lower case the lines that hold it."""
    lines = lzma.decompress(_TABLE.read_bytes()).decode().splitlines()
    lines_of: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        for item in line[line.rindex("\t") + 1 :].split(" "):
            lines_of.setdefault(item.partition(":")[0].replace("_", " ").lower(), []).append(number)
    return lines, lines_of


@functools.lru_cache(maxsize=16_384)
def _synset(number: int) -> _Synset:
    file, pointers, items = _table()[0][number].split("\t")
    members = {}
    for item in items.split(" "):
        written, *numbers = item.replace("_", " ").split(":")
        rank, uses, other_uses = [int(n) for n in numbers] + [1, 0, 0][len(numbers) :]
        members[written.lower()] = _Member(written, rank, uses, other_uses)
    hypernyms = tuple(number - int(p.removeprefix("i")) for p in pointers.split(",") if p)
    return _Synset(int(file), hypernyms, "i" in pointers, members)


def _senses(lemma: str) -> list[tuple[_Member, _Synset]]:
    """The noun senses of a lemma in WordNet's order, the most frequent first."""
    found = [_synset(number) for number in _table()[1].get(lemma, ())]
    return sorted(((s.members[lemma], s) for s in found), key=lambda pair: pair[0].rank)


def is_concrete_noun(word: str) -> bool:
    """Whether a word names, often enough, something that a camera can see.

    Any sense may be the concrete one (the first sense of "tiger" is a person), but a third of
    the word's uses in WordNet's tagged texts must be, counted over all parts of speech with one
    use added to the concrete ones: rare words are kept, "first" (a gear) and "act" (a
    performance) are not. Proper names, words that WordNet writes with a capital, words of one or
    two letters, and a few that are nearly always something else ("must", "felt") do not count.

    Args:
        word: In lower case, as word vectors have it.

    Returns:
        True for "giraffe", False for "democracy", an unknown word, or a verb.
    """
    senses = _senses(word)
    concrete = [
        member.uses
        for member, synset in senses
        if synset.file in _CONCRETE_FILES and not synset.instance and member.written.islower()
    ]
    if not concrete or len(word) < _SHORTEST_WORD or word in _OTHER_WORDS:
        return False
    total = sum(member.uses + member.other_uses for member, _ in senses)
    return sum(concrete) + 1 >= (total + 1) * _CONCRETE_SHARE


def class_words(name: str) -> ClassWords | None:
    """Look a class or category name up.

    Capitals, underscores, hyphens, doubled spaces and plurals are seen through. The whole name
    is tried first, written apart, with hyphens or as one word; then what stands before a
    preposition; then ever shorter ends of it, down to the last word that WordNet has: "red sports
    cars" is a sports car. Of alternatives parted by commas ("maillot, tank suit") the first
    known one is taken.

    Args:
        name: Such as ``"great white shark"``, ``"Granny Smith"``, ``"jack-o'-lantern"``,
            ``"traffic_light"``, ``"sea lions"``.

    Returns:
        The meanings, or None when WordNet has no noun of the name.
    """
    for part in name.split(","):
        plain = part.lower().replace("_", " ").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        text = " ".join(plain.split())
        for candidate in _candidates(text):
            noun = _spelled(candidate)
            if noun:
                return ClassWords(name, noun, whole=candidate == text, senses=_ranked(noun, part))
    return None


def _candidates(text: str) -> Iterator[str]:
    """The text, then its shorter and shorter ends; before a preposition first."""
    if text:
        yield text
    before = _PREPOSITION.split(text)[0]
    words = before.replace("-", " ").split()
    for start in range(before == text, len(words)):
        yield " ".join(words[start:])


def _spelled(text: str) -> str:
    """The text as WordNet spells it: apart, hyphenated or joined, or its singular; or ''."""
    known = _table()[1]
    *front, last = text.split()
    for end in (last, *_singulars(last)):
        whole = " ".join([*front, end])
        apart = whole.replace("-", " ")
        for spelling in (whole, apart, whole.replace(" ", "-"), apart.replace(" ", "")):
            if spelling in known:
                return spelling
    return ""


def _singulars(word: str) -> Iterator[str]:
    if word in _IRREGULAR:
        yield _IRREGULAR[word]
    for plural, singular in _PLURALS:
        if word.endswith(plural) and not word.endswith("ss"):
            yield word.removesuffix(plural) + singular


def _ranked(lemma: str, name: str) -> tuple[Sense, ...]:
    """Every sense of a lemma that stands for a name, in the order of ClassWords.senses."""
    groups: list[list[tuple[_Member, _Synset]]] = [[], [], []]  # concrete, other, proper name
    for member, synset in _senses(lemma):
        group = 2 if synset.instance else 0 if synset.file in _CONCRETE_FILES else 1
        groups[group].append((member, synset))
    concrete, others, names = groups
    # A capital decides next: a cardigan is worn, a Cardigan is a dog.
    concrete.sort(
        key=lambda pair: (-pair[0].uses, pair[0].written not in name, _ORDER[pair[1].file])
    )
    person = next((pair for pair in others if pair[1].file in _PERSON_FILES), None)
    if concrete and person and person[0].uses >= _OUTWEIGHS * (concrete[0][0].uses + 1):
        others.remove(person)
        concrete.insert(0, person)
    return tuple(
        Sense(tuple(synset.members), synset.file in _CONCRETE_FILES, _hypernyms(synset))
        for _, synset in concrete + others + names
    )


def _hypernyms(synset: _Synset) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Every named synset above, breadth first: the shortest way up counts."""
    steps = dict.fromkeys(synset.hypernyms, 1)
    queue = list(steps)
    for number in queue:
        for above in _synset(number).hypernyms:
            if above not in steps:
                steps[above] = steps[number] + 1
                queue.append(above)
    named = ((tuple(_synset(number).members), steps[number]) for number in queue)
    return tuple((lemmas, step) for lemmas, step in named if lemmas[0] not in _GENERIC)
