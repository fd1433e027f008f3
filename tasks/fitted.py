"""Clips of any size and length, brought to those of a dataset, so that its judge can read them."""

import numpy as np
from PIL import Image

from t2v_models.clips.spec import ClipSpec
from t2v_models.sampler import Frames, Request, Sampler, refuse_wishes
from t2v_models.shards.decode import fitted
from t2v_models.shards.picture import Shown


class Fitted:
    """A sampler whose clips become those of a dataset. What it is asked for beside that is passed on.

    The rule: of the whole clip as many frames as the dataset has, evenly spaced, first and last among them, held where
    there are fewer; of each frame the middle of the dataset's form, as `t2v ingest --fit crop` cuts it, scaled once
    with a bicubic filter. Colours stay.
    """

    def __init__(self, sampler: Sampler, spec: ClipSpec) -> None:
        self.name, self.spec, self.sample_batch = sampler.name, spec, sampler.sample_batch
        self._sampler = sampler

    def check(self, request: Request) -> None:
        """See that the sampler can do it.

        Raises:
            LabError: it cannot, or another size or length is wanted.
        """
        refuse_wishes(self.name, self.spec, request, frozenset({"guidance", "steps", "avoid"}))
        self._sampler.check(request)

    def sample(self, request: Request) -> Frames:
        """uint8 `(b, t, h, w, 3)`."""
        return np.stack([fit(clip, self.spec) for clip in self._sampler.sample(request)])


def fit(clip: Frames, spec: ClipSpec) -> Frames:
    """A clip `(t, h, w, 3)` as one of `spec`."""
    chosen = np.linspace(0, len(clip) - 1, spec.frames).round().astype(int)
    pictures = [Image.fromarray(frame) for frame in clip[chosen]]
    return np.stack([fitted(Shown(1, picture.copy), spec, "crop") for picture in pictures])
