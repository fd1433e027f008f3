"""Words that a model was not trained on, understood as trained ones that they are a kind of, or similar to.

From the database files of WordNet 3.0 (Fellbaum 1998; Debian's package `wordnet-base`), whose form the manual page
wndb(5) tells. Forms such as "rising" are led back to words as its morphy(7) does. More than two steps away nearly
everything is a kind of nearly everything.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from t2v_models.config import LabError, near
from t2v_models.text.split import words

MOST_STEPS = 2
KINDS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
"""Parts of speech, by what pointers call them."""
KIND_OF, SIMILAR = ("@", "@i"), "&"
"""Pointers: is a kind or an instance of; is similar to."""
SATELLITE = "s"
"""An adjective that is similar to a more general one. Followed the other way, "indigo" would be "red"."""
ENDINGS = {
    "n": (("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
          ("ies", "y")),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}  # fmt: skip
EMPTY = frozenset(words("a an and are at be by for in is it of on or the then to with"))
"""Words that say nothing by themselves: none is understood as one of them."""

Place = tuple[str, int]
"""Part of speech and byte in its file: of a set of words that mean one thing."""


class WordNet:
    """The database in a folder.

    Args:
        folder: holds data, index and exceptions of nouns, verbs, adjectives and adverbs.

    Raises:
        LabError: a file of it is not there, or is none of WordNet.
    """

    def __init__(self, folder: Path) -> None:
        self._data, self._index, self._irregular = {}, {}, {}
        for kind, name in KINDS.items():
            self._data[kind] = _read(folder / f"data.{name}")
            self._index[kind] = _read(folder / f"index.{name}")
            lines = _read(folder / f"{name}.exc").decode().splitlines()
            self._irregular[kind] = {form: bases for form, *bases in map(str.split, lines) if bases}
        if not self._senses("object"):
            raise LabError(f"the files in {folder} are not those of WordNet 3.0: {GET}")
        self.nearest = lru_cache(4096)(self._nearest)
        """The trained word that is nearest to another one, or nothing: `(word, vocabulary)`."""
        self._trained = lru_cache(8)(self._lemmas_of)

    def understood(self, prompt: str, vocabulary: tuple[str, ...]) -> str:
        """The prompt in words of a vocabulary; as it is where it has no others, or the vocabulary is open.

        Raises:
            LabError: no trained word is near to one of it.
        """
        said = words(prompt)
        if not vocabulary or set(said) <= set(vocabulary):
            return prompt
        return " ".join(word if word in vocabulary else self._in_place_of(word, prompt, vocabulary) for word in said)

    def _in_place_of(self, word: str, prompt: str, vocabulary: tuple[str, ...]) -> str:
        if found := self.nearest(word, vocabulary):
            return found
        raise LabError(
            f"the model was not trained on the word {word!r} of prompt {prompt!r}, nor on one that it is a kind of by "
            f"WordNet: {near(word, vocabulary)}"
        )

    def _nearest(self, word: str, vocabulary: tuple[str, ...]) -> str:
        """By fewest steps, then by the most usual sense."""
        trained = self._trained(vocabulary)
        here = self._senses(word)
        for _ in range(MOST_STEPS + 1):
            for place in here:
                for lemma in self._lemmas(place):
                    if found := trained.get((place[0], lemma)):
                        return found
            here = list(dict.fromkeys(above for place in here for above in self._above(place)))
        return ""

    def _lemmas_of(self, vocabulary: tuple[str, ...]) -> dict[tuple[str, str], str]:
        """The word of a vocabulary that a lemma stands for, by its part of speech."""
        found: dict[tuple[str, str], str] = {}
        for word in vocabulary:
            for kind in KINDS if word not in EMPTY else ():
                for base in self._bases(word, kind):
                    found.setdefault((kind, base), word)
        return found

    def _bases(self, word: str, kind: str) -> Iterator[str]:
        """Lemmas that a word may be a form of. An irregular form that is itself a word, as "left", is that word."""
        yield word
        if not any(self._line(word, other) for other in KINDS):
            yield from self._irregular[kind].get(word, ())
        for ending, base in ENDINGS[kind]:
            if word.endswith(ending) and len(word) > len(ending) + 1:
                stem = word[: -len(ending)]
                yield stem + base
                if ending in ("ing", "ed") and stem[-1:] == stem[-2:-1]:
                    yield stem[:-1]  # "dropping"

    def _senses(self, word: str) -> list[Place]:
        """All that a word means, the first senses of every part of speech before the second ones."""
        found: list[tuple[int, Place]] = []
        for kind in KINDS:
            for base in dict.fromkeys(self._bases(word, kind)):
                line = self._line(base, kind).split()
                senses = line[-int(line[2]) :] if line else []
                found += [(rank, (kind, int(place))) for rank, place in enumerate(senses)]
        return [place for _, place in sorted(found, key=lambda sense: sense[0])]

    def _line(self, lemma: str, kind: str) -> bytes:
        """Of the index; empty where it has none."""
        index = self._index[kind]
        start = index.find(f"\n{lemma} ".encode()) + 1
        return index[start : index.index(b"\n", start)] if start else b""

    def _fields(self, place: Place) -> list[str]:
        kind, start = place
        data = self._data[kind]
        return data[start : data.index(b"|", start)].decode().split()

    def _lemmas(self, place: Place) -> list[str]:
        fields = self._fields(place)
        count = int(fields[3], 16)
        return [lemma.partition("(")[0].lower() for lemma in fields[4 : 4 + 2 * count : 2]]

    def _above(self, place: Place) -> Iterator[Place]:
        """What it is a kind of, or the more general adjective that it is similar to."""
        fields = self._fields(place)
        upwards = (*KIND_OF, SIMILAR) if fields[2] == SATELLITE else KIND_OF
        rest = fields[5 + 2 * int(fields[3], 16) :]
        for pointer, start, kind, _ in zip(*(rest[k::4] for k in range(4)), strict=False):
            if pointer in upwards:
                yield "a" if kind == SATELLITE else kind, int(start)


GET = "give the folder of its database, which on Debian 'apt install wordnet-base' puts into /usr/share/wordnet"


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise LabError(f"{file} cannot be read and is part of WordNet: {GET}") from error


def understood_as(meant: Mapping[str, str]) -> list[str]:
    """What was understood as something else, a line each."""
    return [f"{said!r} understood as {other!r}" for said, other in meant.items() if said != other]
