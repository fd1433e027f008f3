"""The size of a clip and how its pixels are stored: what is true of any clip, whatever it shows."""

from typing import Literal

from pydantic import Field

from t2v_models.config import Config

Codec = Literal["lz4", "webp"]
"""How pixels are stored: `shards.codec`."""

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
