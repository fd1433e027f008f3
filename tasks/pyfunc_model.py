"""The served model: prompts in, MP4 clips out. MLflow runs this file when it loads the model ("models from code")."""

import base64
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from t2v_models import generate, media


class TextToVideo(PythonModel):
    """Answers a table with a `prompt` column by `count` clips a prompt, with seeds `seed`, `seed + 1`, …"""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the newest checkpoint of the run folder that was logged with the model."""
        self.model = generate.load_run(Path(context.artifacts["run"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row a clip: prompt, seed, mime, data_base64 (an MP4), frames and size in pixels."""
        asked = {"seed": 0, "count": 1} | (params or {})
        prompts, seeds = generate.repeat(list(model_input["prompt"]), int(asked["count"]), int(asked["seed"]))
        clips = generate.sample_frames(self.model, prompts, seeds)
        return pd.DataFrame(
            {
                "prompt": prompts,
                "seed": seeds,
                "mime": "video/mp4",
                "data_base64": [base64.b64encode(media.to_mp4(c, self.model.spec.fps)).decode() for c in clips],
                "frames": clips.shape[1],
                "size": clips.shape[2],
            }
        )


mlflow.models.set_model(TextToVideo())
