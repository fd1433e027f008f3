"""Shapes and colours that the grammar has words for, and the background that objects stand on."""

from typing import Literal

Shape = Literal["circle", "square", "triangle", "diamond", "cross", "ring"]
Colour = Literal["blue", "red", "green", "orange", "purple", "black"]

SHAPES: tuple[Shape, ...] = Shape.__args__  # type: ignore[attr-defined]

BACKGROUND = (255, 255, 255)
PALETTE: dict[Colour, tuple[int, int, int]] = {
    "blue": (30, 90, 220), "red": (220, 40, 40), "green": (0, 150, 50),
    "orange": (245, 150, 0), "purple": (150, 40, 190), "black": (20, 20, 20),
}  # fmt: skip
"""RGB, 0–255. Every colour is far from the white background in at least one channel, so opacity can be read back, and
at least 110 away from every other colour, so that an error of 10 % in each channel does not change its name."""
