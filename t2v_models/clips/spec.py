"""The size of a clip, and the ground and colours everything is drawn in."""

from typing import Literal

from pydantic import Field

from t2v_models.config import Config

World = Literal["circles"]
Shape = Literal["circle"]
Colour = Literal["blue"]

GROUND = (255, 255, 255)
PALETTE: dict[Colour, tuple[int, int, int]] = {"blue": (30, 90, 220)}
"""RGB, 0–255. Every colour is far from the white ground in at least one channel, so opacity can be read back."""

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
