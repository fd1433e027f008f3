"""The served model: prompts in, clips out. MLflow runs this file when it loads the model ("models from code").

Beside it lie the weights and the `t2v_models` of their day; nothing else of the lab is needed.
"""

import base64
from pathlib import Path
from typing import Any, Literal

import mlflow
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import Field, ValidationError

from t2v_models import generate, sampler
from t2v_models.clips import media
from t2v_models.clips.spec import frames_and_size
from t2v_models.config import Config, LabError, in_words

MOST_CLIPS = 64
"""Clips in one answer."""
ENCODERS = {"mp4": ("video/mp4", media.to_mp4), "webp": ("image/webp", media.to_webp)}


class Asked(Config):
    """One request."""

    prompts: tuple[str, ...] = Field(min_length=1, max_length=MOST_CLIPS)
    seed: int = Field(0, ge=0, lt=2**62)
    count: int = Field(1, ge=1, le=MOST_CLIPS)
    format: Literal["mp4", "webp"] = "mp4"
    shape: str = ""
    """Width, height and frames, `64x36x10`, of a model that makes others than its own."""

    @property
    def wishes(self) -> sampler.Request:
        """What is asked for beside prompts."""
        frames, size = frames_and_size(self.shape) if self.shape else (None, None)
        return sampler.Request((), (), frames=frames, size=size)


class TextToVideo(PythonModel):
    """Answers a table with a `prompt` column by `count` clips a prompt, with seeds `seed`, `seed + 1`, …"""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the newest checkpoint of the run folder that was logged with the model."""
        torch.set_num_threads(1)  # requests share the cores; where those are busy, threads wait for each other
        self.model = generate.load_run(Path(context.artifacts["run"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row a clip: prompt, seed, mime, data_base64 (an MP4 or a WebP), frames and size in pixels.

        Raises:
            MlflowException: the prompts or the parameters cannot be answered; the server says why, with status 400.
        """
        try:
            return self._clips(Asked.model_validate({"prompts": tuple(model_input["prompt"])} | (params or {})))
        except ValidationError as error:
            raise MlflowException.invalid_parameter_value(in_words(error)) from error
        except LabError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _clips(self, asked: Asked) -> pd.DataFrame:
        prompts, seeds = sampler.repeat(asked.prompts, asked.count, asked.seed)
        if len(prompts) > MOST_CLIPS:
            raise LabError(
                f"{len(asked.prompts)} prompts with count {asked.count} are {len(prompts)} clips: an answer holds at "
                f"most {MOST_CLIPS}, ask again for the rest"
            )
        clips = sampler.sample_frames(self.model, prompts, seeds, asked.wishes)
        mime, encode = ENCODERS[asked.format]
        return pd.DataFrame(
            {
                "prompt": prompts,
                "seed": seeds,
                "mime": mime,
                "data_base64": [base64.b64encode(encode(clip, self.model.spec.fps)).decode() for clip in clips],
                "frames": clips.shape[1],
                "height": clips.shape[2],
                "width": clips.shape[3],
            }
        )


mlflow.models.set_model(TextToVideo())
