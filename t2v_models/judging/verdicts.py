"""The judge's word on every clip: what was asked, what the pixels show, why it is wrong, and every number measured."""

import math
from collections.abc import Sequence
from typing import Literal

import pyarrow as pa

from t2v_models.clips.spec import UNIT_SIZE
from t2v_models.worlds.laws import least_speed
from t2v_models.worlds.motions import ACTIONS, SIZE_MOTIONS
from t2v_models.worlds.world import Frames, Reading, World

Mark = Literal["right", "partly", "wrong"]


class Verdict(Reading):
    """The reading of one judged clip, and which clip it is."""

    prompt: str
    split: str
    seed: int
    understood: str = ""
    """The prompt as the model was asked it, where that was in other words."""

    rank: float = math.nan
    """Place of the own caption among others, by looks and motion together; 1 is best. With what follows it is known
    where nobody knows what a clip should show (`reference`), and nan elsewhere."""
    rank_appearance: float = math.nan
    rank_motion: float = math.nan
    match: float = math.nan
    """Cosine between clip and caption, mean of both views, -1 to 1."""
    own_pixels: float = math.nan
    own_motion: float = math.nan
    """Whether the real clip of the caption is nearer than other real clips, 0 or 1."""
    own_rmse: float = math.nan
    """Root mean square difference from it, 0 to 1."""
    motion_corr: float = math.nan
    """Correlation of the changes from frame to frame with its, -1 to 1."""
    energy: float = math.nan
    sharpness: float = math.nan
    """Mean change from frame to frame, and from pixel to pixel, over those of real clips."""
    far: float = math.nan
    """Root mean square difference from the nearest training clip, 0 to 1."""

    @property
    def judge(self) -> Literal["truth", "reference"]:
        """Which judge said it."""
        return "truth" if math.isnan(self.rank) else "reference"

    @property
    def mark(self) -> Mark:
        """How people see it: right is all that `prompt_success` asks for, partly is the motion but not the rest."""
        if not self.right:
            return "wrong"
        return "right" if self.success else "partly"

    @property
    def unit(self) -> float:
        """px per unit of length."""
        return self.size / UNIT_SIZE

    @property
    def must_move(self) -> bool:
        """The prompt asks the object to change its place."""
        return self.asked in ACTIONS and self.asked not in SIZE_MOTIONS

    @property
    def moves(self) -> bool:
        """At least `least_speed` on average: a frozen clip is perfectly consistent and must not be praised for it."""
        return self.valid and self.path >= least_speed(len(self.x), self.unit) * (len(self.x) - 1)


def judge(frames: Frames, prompts: Sequence[str], seeds: Sequence[int], split: str, world: World) -> list[Verdict]:
    """Read clips `(n, t, h, w, 3)` of a world, compare each with its prompt, and measure it."""
    readings = world.read(frames, [world.parse(prompt) for prompt in prompts])
    return [
        Verdict.model_construct(**vars(reading), prompt=prompt, split=split, seed=int(seed))
        for reading, prompt, seed in zip(readings, prompts, seeds, strict=True)
    ]


def table(verdicts: Sequence[Verdict]) -> pa.Table:
    """A row per clip, for `verdicts.parquet`."""
    return pa.Table.from_pylist([v.model_dump() for v in verdicts])


def verdicts_of(rows: pa.Table) -> list[Verdict]:
    """Inverse of `table`."""
    return [Verdict.model_validate(row) for row in rows.to_pylist()]
