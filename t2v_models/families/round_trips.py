"""Families that take clips apart and make them again, none of a prompt: first stages, and last ones."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from t2v_models.batch import to_frames, to_video
from t2v_models.config import LabError
from t2v_models.families.rates import PacedModel
from t2v_models.machine import threads
from t2v_models.sampler import Frames, Request


class RoundTripModel(PacedModel):
    """`sampler.RoundTrip`: a stage that is judged by what becomes of real clips."""

    serves: ClassVar[str]
    """The family that builds on it, and how, as `ar_tokens with --set tokenizer=RUN`."""

    @abstractmethod
    def again(self, video: Tensor) -> Tensor:
        """Clips `(b, 3, t, h, w)` in [-1, 1] of any length, taken apart and made again."""

    def round_trip(self, frames: Frames) -> Frames:
        """uint8 `(b, t, h, w, 3)` to the same shape."""
        with torch.inference_mode(), threads(self.config.threads):
            starts = range(0, len(frames), self.sample_batch)
            parts = (torch.from_numpy(frames[i : i + self.sample_batch]).to(self.device) for i in starts)
            return np.concatenate([to_frames(self.again(to_video(part))) for part in parts])

    def check(self, request: Request) -> None:
        """It makes no clips of prompts.

        Raises:
            LabError: always, with what it is for.
        """
        raise LabError(
            f"{self.name} makes no clips of prompts: judge by 't2v evaluate RUN' what becomes of real clips, or train "
            f"{self.serves} to make some"
        )

    def make(self, request: Request) -> Tensor:
        """It does not."""
        self.check(request)
        raise AssertionError
