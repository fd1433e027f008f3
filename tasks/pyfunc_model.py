"""The served model: prompts in, clips out. MLflow runs this file when it loads the model ("models from code").

Beside it lie the weights and the `t2v_models` of their day; nothing else of the lab is needed.
"""

import base64
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from t2v_models import generate, media
from t2v_models.config import LabError, near

MOST_CLIPS = 64
"""Clips in one answer."""
ENCODERS = {"mp4": ("video/mp4", media.to_mp4), "webp": ("image/webp", media.to_webp)}


class TextToVideo(PythonModel):
    """Answers a table with a `prompt` column by `count` clips a prompt, with seeds `seed`, `seed + 1`, …"""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the newest checkpoint of the run folder that was logged with the model."""
        self.model = generate.load_run(Path(context.artifacts["run"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row a clip: prompt, seed, mime, data_base64 (an MP4 or a WebP), frames and size in pixels.

        Raises:
            MlflowException: the prompts or the parameters cannot be answered; the server says why, with status 400.
        """
        asked: dict[str, Any] = {"seed": 0, "count": 1, "format": "mp4"} | (params or {})
        try:
            return self._clips(list(model_input["prompt"]), asked["seed"], asked["count"], asked["format"])
        except LabError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _clips(self, prompts: list[str], seed: int, count: int, kind: str) -> pd.DataFrame:
        if kind not in ENCODERS:
            raise LabError(f"unknown format {kind!r}: {near(kind, ENCODERS)}")
        if seed < 0:
            raise LabError(f"seed is {seed}: give 0 or more")
        if count < 1 or not 1 <= len(prompts) * count <= MOST_CLIPS:
            raise LabError(f"{len(prompts)} prompts with count {count}: an answer holds 1 to {MOST_CLIPS} clips")
        prompts, seeds = generate.repeat(prompts, int(count), int(seed))
        clips = generate.sample_frames(self.model, prompts, seeds)
        mime, encode = ENCODERS[kind]
        return pd.DataFrame(
            {
                "prompt": prompts,
                "seed": seeds,
                "mime": mime,
                "data_base64": [base64.b64encode(encode(clip, self.model.spec.fps)).decode() for clip in clips],
                "frames": clips.shape[1],
                "size": clips.shape[2],
            }
        )


mlflow.models.set_model(TextToVideo())
