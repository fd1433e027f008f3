"""The size of a clip and how its pixels are stored: what is true of any clip, whatever it shows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from t2v_models.config import Config, LabError

Codec = Literal["lz4", "webp", "npy"]
"""How pixels are stored: `shards.codec`."""

UNIT_SIZE = 64
"""Lengths in motion laws are written for a 64-px frame and scale with the shorter side of the frame."""


def _with_size(schema: dict[str, Any]) -> None:
    """Forms may give `size` for both sides."""
    about = "pixels of both sides, in place of height and width"
    schema["properties"]["size"] = {
        "type": "integer", "minimum": 16, "maximum": 512, "title": "Size", "description": about,
    }  # fmt: skip


class ClipSpec(Config, json_schema_extra=_with_size):
    """What all clips of a dataset share: uint8 frames of shape `(frames, height, width, 3)`.

    `size` stands for both sides of a square frame, in what is read and in what is written.
    """

    frames: int = Field(10, ge=1, le=256, description="frames per clip; an image is a clip of 1")
    height: int = Field(64, ge=16, le=512, description="pixels")
    width: int = Field(64, ge=16, le=512, description="pixels")
    fps: int = Field(10, ge=1, le=60, description="frames per second when played")

    @model_validator(mode="before")
    @classmethod
    def _sides_of_size(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "size" not in values:
            return values
        if both := {"height", "width"} & values.keys():
            raise ValueError(f"size and {' and '.join(sorted(both))} are given: give size, or height and width")
        return {name: value for name, value in values.items() if name != "size"} | {
            "height": values["size"], "width": values["size"]
        }  # fmt: skip

    @model_serializer(mode="wrap")
    def _size_of_sides(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Square ones as they always were, so that digests stay."""
        values: dict[str, Any] = handler(self)
        if self.height != self.width or not {"height", "width"} <= values.keys():
            return values
        return {"size" if name == "height" else name: value for name, value in values.items() if name != "width"}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of a clip: (t, h, w, 3)."""
        return self.frames, self.height, self.width, 3

    @property
    def size(self) -> int:
        """Of a square frame, px: for what cannot be of another form."""
        assert self.height == self.width, self
        return self.height

    @property
    def sides(self) -> str:
        """In words, px: 64, or width first 64x36."""
        return sides(self.height, self.width)

    @property
    def name(self) -> str:
        """Of the shape, width, height and frames: 64x36x10."""
        return f"{self.width}x{self.height}x{self.frames}"

    @property
    def short_side(self) -> int:
        """px."""
        return min(self.height, self.width)

    @property
    def unit(self) -> float:
        """Pixels per unit of length: 1 at 64 px, 0.5 at 32 px."""
        return self.short_side / UNIT_SIZE


def sides_alike(
    one: Mapping[str, object], other: Mapping[str, object]
) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Flat settings of two datasets, to be compared: by height and width where only one is square."""
    return (one, other) if ("spec.size" in one) == ("spec.size" in other) else (_with_sides(one), _with_sides(other))


def _with_sides(flat: Mapping[str, object]) -> Mapping[str, object]:
    both = {f"spec.{side}": flat["spec.size"] for side in ("height", "width") if "spec.size" in flat}
    return {key: value for key, value in flat.items() if key != "spec.size"} | both


class Bucket(Config):
    """Clips of one shape in a dataset of several."""

    spec: ClipSpec = Field(description="their shape")
    clips: int = Field(ge=0, description="how many there are")


def most_common(buckets: Sequence[Bucket]) -> ClipSpec:
    """The shape of most clips, the first of equals."""
    return max(buckets, key=lambda bucket: bucket.clips).spec


def in_a_row(shapes: Iterable[ClipSpec]) -> str:
    """Their names, for sentences."""
    return ", ".join(spec.name for spec in shapes)


def check_shapes(shapes: Iterable[ClipSpec]) -> None:
    """See that shapes can stand in one dataset.

    Raises:
        ValueError: two are equal, or play at different rates.
    """
    seen: dict[str, ClipSpec] = {}
    for spec in shapes:
        if spec.name in seen:
            raise ValueError(f"the shape {spec.name} is named twice: name each once")
        seen[spec.name] = spec
    rates = sorted({spec.fps for spec in seen.values()})
    if len(rates) > 1:
        raise ValueError(f"clips of {rates[0]} and of {rates[-1]} frames per second: all of a dataset play at one rate")


def sides(height: int, width: int) -> str:
    """Of a frame, in words: 64, or width first 64x36."""
    return f"{width}" if height == width else f"{width}x{height}"


def height_and_width(size: str, what: str = "--size") -> tuple[int, int]:
    """Of `64` or `64x36`, width first as everywhere.

    Args:
        size: the text.
        what: the option that it is given to.

    Raises:
        LabError: it is neither.
    """
    numbers = re.fullmatch(r"(\d+)(?:x(\d+))?", size)
    if not numbers:
        raise LabError(f"{what} {size!r} is no size: write 64 or, width first, 64x36")
    return int(numbers[2] or numbers[1]), int(numbers[1])


def frames_and_size(shape: str) -> tuple[int, tuple[int, int]]:
    """Of the name of a shape, `64x36x10`: frames, and height and width.

    Raises:
        LabError: it is none.
    """
    numbers = re.fullmatch(r"(\d+)x(\d+)x(\d+)", shape)
    if not numbers:
        raise LabError(f"{shape!r} is no shape: write width, height and frames, 64x36x10")
    return int(numbers[3]), (int(numbers[2]), int(numbers[1]))
