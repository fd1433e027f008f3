"""A picture of a film, not yet turned into pixels, and what is told of a film beside its pictures."""

from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

MOST_PIXELS = 64_000_000
"""Of one picture: more than 8K video has. Larger ones are refused before they are decoded."""


@dataclass(frozen=True)
class Shown:
    """A picture and how long it is seen."""

    seconds: float
    pixels: Callable[[], Image.Image]
    """Makes the picture, 8-bit RGB. Films have more pictures than are looked at."""
    aspect: float = 1.0
    """Width of a pixel over its height, as a player shows it."""
    damage: str | None = None
    """Why the picture may be ruined, if so."""
    done: float = 0.0
    """Share of the file that is read."""


@dataclass
class Told:
    """What the reader of a film found out beside its pictures."""

    notices: dict[str, None] = field(default_factory=dict)
    """What was assumed, each once."""
    lost: str | None = None
    """Why the film is shorter than it was, if so."""
    before: float | None = 0.0
    """Seconds of the file before its first picture, as where sound begins; None where it does not tell."""

    def note(self, text: str) -> None:
        """Say something of the whole film, once."""
        self.notices.setdefault(text)

    def unchecked(self, coder: str) -> None:
        """Say that nothing in a film of this coder tells whether its bits are right: some damage leaves legal codes."""
        self.note(f"wrong bits in it may pass unnoticed: {coder.upper()} here has no checksum")


def check_size(width: int, height: int) -> None:
    """Refuse pictures without pixels, and ones that would fill the memory.

    Raises:
        ValueError: the size, and what is allowed.
    """
    if width < 1 or height < 1:
        raise ValueError("it has no pixels")
    if width * height > MOST_PIXELS:
        raise ValueError(f"its frames of {width} x {height} pixels are too large: at most {MOST_PIXELS:,} are decoded")


def on_white(image: Image.Image) -> Image.Image:
    """RGB; what is transparent lies on white, in every format."""
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
