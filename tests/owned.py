"""A small dataset of people's own clips that a judge can learn: squares of four colours that move four ways."""

from pathlib import Path

import numpy as np

from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
from tests.tiny import SPEC

COLOURS = {"red": (220, 30, 30), "green": (20, 160, 40), "blue": (30, 60, 220), "black": (10, 10, 10)}
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
CAPTIONS = [f"a {colour} square moves {way}" for colour in COLOURS for way in WAYS]


def drawn(caption: str, seed: int) -> np.ndarray:
    """One clip, uint8 `(6, 16, 16, 3)`."""
    _, colour, _, _, way = caption.split()
    rng, (dx, dy) = np.random.default_rng(seed), WAYS[way]
    x, y = rng.integers(5, 8, 2)
    clip = np.full((SPEC.frames, SPEC.size, SPEC.size, 3), 255 - rng.integers(30, size=3), np.uint8)
    for t, frame in enumerate(clip):
        left, top = x + dx * (t - 2), y + dy * (t - 2)
        frame[top : top + 4, left : left + 4] = COLOURS[colour]
    return clip


def owned(folder: Path, count: int = 240, validation: float = 0.4, captions: list[str] | None = None) -> Path:
    """An ingested dataset of such clips; `captions[i]` is said of clip i, by default what it shows."""
    clips = folder / "clips"
    clips.mkdir(parents=True)
    for i in range(count):
        shown = CAPTIONS[i % len(CAPTIONS)]
        np.savez(clips / f"{i:04d}.npz", frames=drawn(shown, i), fps=10)
        (clips / f"{i:04d}.txt").write_text(captions[i] if captions else shown)
    out = folder / "data"
    ingest(clips, out, IngestOptions(spec=SPEC, validation=validation))
    return out
