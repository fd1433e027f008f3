"""Words that no caption has, each with the trained words it stands for: split `s7` asks for them.

Every world says which of them it asks for; all worlds know what they mean.
"""

import re
from collections.abc import Mapping, Sequence

MOTION_SYNONYMS = {
    "travelling": "moving", "gliding": "moving",
    "leftward": "left", "leftwards": "left", "rightward": "right", "rightwards": "right",
    "upward": "up", "upwards": "up", "downward": "down", "downwards": "down",
    "rising": "moving up", "climbing": "moving up", "ascending": "moving up",
    "falling": "moving down", "sinking": "moving down", "descending": "moving down",
    "revolving": "rotating", "turning": "rotating", "circling": "rotating",
    "contracting": "shrinking", "dwindling": "shrinking", "growing": "expanding", "swelling": "expanding",
    "rebounding": "bouncing", "springing": "bouncing", "weaving": "zigzagging", "swerving": "zigzagging",
}  # fmt: skip
DISC_SYNONYMS = {"disc": "circle", "disk": "circle", "ball": "circle"}
OBJECT_SYNONYMS = DISC_SYNONYMS | {
    "box": "square", "rhombus": "diamond", "lozenge": "diamond", "hoop": "ring", "plus": "cross", "wedge": "triangle",
    "crimson": "red", "scarlet": "red", "navy": "blue", "cobalt": "blue", "jade": "green", "tangerine": "orange",
    "violet": "purple", "mauve": "purple", "jet": "black", "sable": "black",
}  # fmt: skip
_ALL = MOTION_SYNONYMS | OBJECT_SYNONYMS


def trained_words(said: Sequence[str]) -> list[str]:
    """The same in words that captions have, as far as these stand for some."""
    return [word for one in said for word in _ALL.get(one, one).split()]


def has_synonyms(said: Sequence[str]) -> bool:
    """Whether any of the words is one that no caption has."""
    return not _ALL.keys().isdisjoint(said)


def in_other_words(captions: Sequence[str], synonyms: Mapping[str, str], each: int = 1) -> tuple[str, ...]:
    """Up to `each` captions a synonym, evenly of those with the words it stands for, in which it takes their place."""
    found = []
    for number, (synonym, meant) in enumerate(synonyms.items()):
        place = re.compile(rf"(?<![\w-]){meant}(?![\w-]| of\b)")  # neither in "up-left" nor in "left of"
        able = [caption for caption in captions if place.search(caption)]
        rows = [(7 * number + k * len(able) // each) % len(able) for k in range(min(each, len(able)))]
        found += [place.sub(synonym, able[row], count=1) for row in rows]
    return tuple(dict.fromkeys(found))
