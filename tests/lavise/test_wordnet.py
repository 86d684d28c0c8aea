import runpy
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavise.wordnet import class_words, is_concrete_noun

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_wordnet_table.py"


def above(name: str) -> list[str]:
    """The first lemmas of the likeliest sense's hypernyms."""
    known = class_words(name)
    assert known is not None
    return [lemmas[0] for lemmas, _ in known.senses[0].hypernyms]


@pytest.mark.parametrize("word", ["giraffe", "tiger", "crane", "plane", "seal", "scissors", "milk"])
def test_concrete_in_any_frequent_enough_sense(word: str) -> None:
    assert is_concrete_noun(word)


@pytest.mark.parametrize(
    "word",
    [
        "democracy",  # abstract
        "first",  # a gear, but hardly ever
        "must",  # grape juice, but its vector is the modal's
        "he",  # helium
        "os",  # a bone
        "danube",  # a proper name
        "walk",
        "qwxz",
        "",
    ],
)
def test_not_concrete(word: str) -> None:
    assert not is_concrete_noun(word)


@pytest.mark.parametrize(
    ("name", "noun", "whole"),
    [
        ("great white shark", "great white shark", True),
        ("Granny Smith", "granny smith", True),
        ("bird house", "birdhouse", True),
        ("jack-o'-lantern", "jack-o'-lantern", True),
        ("jack-o\N{RIGHT SINGLE QUOTATION MARK}-lantern", "jack-o'-lantern", True),
        ("German shepherd", "german shepherd", True),
        ("School_Bus", "school bus", True),
        ("tee-shirt", "tee shirt", True),
        ("sea lions", "sea lion", True),
        ("knives", "knife", True),
        ("buses", "bus", True),
        ("houses", "house", True),
        ("cherries", "cherry", True),
        ("women", "woman", True),
        ("mice", "mouse", True),
        ("glasses", "glasses", True),  # spectacles, not several glasses
        ("lily of the valley", "lily of the valley", True),
        ("bowl of soup", "bowl", False),
        ("red sports cars", "sports car", False),
        ("crane bird", "bird", False),
        ("unheardof, tank suit", "tank suit", True),
    ],
)
def test_class_name_is_found_as_wordnet_spells_it(name: str, noun: str, whole: bool) -> None:  # noqa: FBT001
    known = class_words(name)
    assert known is not None
    assert (known.name, known.noun, known.whole) == (name, noun, whole)


@pytest.mark.parametrize("name", ["", " ", "qwxz", ", ,", "- _"])
def test_unknown_name_is_none(name: str) -> None:
    assert class_words(name) is None


def test_hypernyms_are_nearest_first_with_steps_and_without_the_widest() -> None:
    known = class_words("great white shark")
    assert known is not None
    hypernyms = known.senses[0].hypernyms
    assert [(lemmas[0], steps) for lemmas, steps in hypernyms] == [
        ("mackerel shark", 1),
        ("shark", 2),
        ("elasmobranch", 3),
        ("cartilaginous fish", 4),
        ("fish", 5),
        ("aquatic vertebrate", 6),
        ("animal", 9),  # vertebrate and chordate are left out, and count as steps
    ]
    assert not {"whole", "artifact", "entity", "object", "device"} & set(above("laptop"))


def test_every_parent_is_followed() -> None:
    assert {"canine", "domestic animal"} <= set(above("dog"))


def test_senses_come_concrete_first_and_all() -> None:
    known = class_words("crane")
    assert known is not None
    firsts = [sense.hypernyms[0][0][0] for sense in known.senses[:2]]
    assert firsts == ["wading bird", "lifting device"]
    assert len(known.senses) == 5  # a constellation and two writers follow


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tiger", "big cat"),  # its first sense is a fierce person
        ("monarch", "butterfly"),
        ("cardigan", "sweater"),
        ("Cardigan", "dog"),
        ("otter", "mammal"),  # not its fur
        ("fig", "edible fruit"),  # not the tree
        ("jack-o'-lantern", "lantern"),  # not the apparition
        ("man", "person"),  # not the piece of a board game
        ("baby", "child"),
    ],
)
def test_likeliest_sense(name: str, kind: str) -> None:
    assert kind in above(name)


def test_person_is_a_human_being_not_a_body() -> None:
    known = class_words("person")
    assert known is not None
    assert "somebody" in known.senses[0].lemmas


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_none(text: str) -> None:
    known = class_words(text)
    assert known is None or known.senses
    assert is_concrete_noun(text) in {True, False}


def test_table_is_small_and_carries_its_licence() -> None:
    data = files("lavise") / "data"
    assert len((data / "wordnet_nouns.tsv.xz").read_bytes()) < 1_000_000
    licence = (data / "WORDNET_LICENSE").read_text(encoding="utf-8")
    assert "Princeton" in licence


def test_script_makes_the_table_from_wordnets_files(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text(
        "  1 a licence\n"
        "00000100 03 n 01 entity 0 000 | what is\n"
        "00000200 05 n 02 big_cat 0 Cat 0 002 @ 00000100 n 0000 ~ 00000300 n 0000 | a | b\n"
        "00000300 05 n 01 tom 1 001 @i 00000200 n 0000 | a certain cat\n"
    )
    (tmp_path / "index.sense").write_text(
        "big_cat%1:05:00:: 00000200 1 0\n"
        "cat%1:05:00:: 00000200 10 7\n"
        "cat%2:35:00:: 00009999 1 4\n"
        "entity%1:03:00:: 00000100 1 11\n"
        "tom%1:05:00:: 00000300 1 0\n"
        "tom%2:35:00:: 00009998 1 3\n"
    )
    assert list(runpy.run_path(str(SCRIPT))["table"](tmp_path)) == [
        "3\t\tentity:1:11\n",
        "5\t1\tbig_cat Cat:10:7\n",
        "5\ti1\ttom:1:0:3\n",
    ]
