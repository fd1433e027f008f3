"""The judge's word on every clip: what was asked, what the pixels show, and why it is wrong if it is."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from t2v_models.clips.prompts import parse
from t2v_models.clips.reader import read
from t2v_models.config import Config


class Verdict(Config):
    """One judged clip."""

    prompt: str
    split: str
    seed: int
    asked: str
    """Motion the prompt asks for."""
    shown: str
    """Motion read from the pixels; `still`, `other` or `invalid` when there is none."""
    right: bool
    valid: bool
    reason: str
    """Why the clip is wrong; empty when it is right."""
    rmse: float
    """px between the object's path and the law it was read as; nan when invalid."""


def judge(frames: NDArray[np.uint8], prompts: Sequence[str], seeds: Sequence[int], split: str) -> list[Verdict]:
    """Read clips `(n, t, h, w, 3)` and compare each with its prompt."""
    meanings = [parse(p) for p in prompts]
    reading = read(frames, [m.colour for m in meanings])
    verdicts = []
    for i, meaning in enumerate(meanings):
        shown = reading.action[i]
        right = shown == meaning.action
        reason = "" if right else reading.reason[i] or f"moves like {shown!r}, asked for {meaning.action!r}"
        verdicts.append(
            Verdict(prompt=prompts[i], split=split, seed=seeds[i], asked=meaning.action, shown=shown, right=right,
                    valid=shown != "invalid", reason=reason, rmse=float(reading.rmse[i]))
        )  # fmt: skip
    return verdicts


def table(verdicts: Sequence[Verdict]) -> pa.Table:
    """A row per clip, for `verdicts.parquet`."""
    return pa.Table.from_pylist([v.model_dump() for v in verdicts])
