"""The size of a clip, and the ground, shapes and colours everything is drawn in."""

from typing import Literal

from pydantic import Field

from t2v_models.config import Config

World = Literal["circles", "shapes"]
Shape = Literal["circle", "square", "triangle", "diamond", "cross", "ring"]
Codec = Literal["lz4", "webp"]
"""How pixels are stored: `shards.codec`."""
Colour = Literal["blue", "red", "green", "orange", "purple", "black"]

SHAPES: tuple[Shape, ...] = Shape.__args__  # type: ignore[attr-defined]

GROUND = (255, 255, 255)
PALETTE: dict[Colour, tuple[int, int, int]] = {
    "blue": (30, 90, 220), "red": (220, 40, 40), "green": (0, 150, 50),
    "orange": (245, 150, 0), "purple": (150, 40, 190), "black": (20, 20, 20),
}  # fmt: skip
"""RGB, 0–255. Every colour is far from the white ground in at least one channel, so opacity can be read back, and at
least 110 away from every other colour, so that an error of 10 % in each channel does not change its name."""

UNIT_SIZE = 64
"""Lengths in motion laws are written for a 64-px frame and scale with the frame's size."""


class ClipSpec(Config):
    """What all clips of a dataset share: uint8 frames of shape `(frames, size, size, 3)`."""

    frames: int = Field(10, ge=4, le=256, description="frames per clip")
    size: int = Field(64, ge=16, le=512, description="height and width in pixels")
    fps: int = Field(10, ge=1, le=60, description="frames per second when played")

    @property
    def unit(self) -> float:
        """Pixels per unit of length: 1 at 64 px, 0.5 at 32 px."""
        return self.size / UNIT_SIZE
