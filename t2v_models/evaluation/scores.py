"""What is asked of a model, and the scores it got."""

from pydantic import Field

from t2v_models.clips.reader import READER_VERSION
from t2v_models.clips.splits import SPLITS, Split
from t2v_models.config import Config
from t2v_models.evaluation.statistics import Score


class EvaluateConfig(Config):
    """What is asked of a model, and how often."""

    splits: tuple[Split, ...] | None = Field(
        None,
        min_length=1,
        description="; ".join(f"{k}: {v}" for k, v in SPLITS.items()) + "; all by default",
    )
    clips_per_prompt: int = Field(64, ge=1, le=4096, description="clips sampled and read for each prompt")
    seed: int = Field(0, ge=0, description="clip i of a split is sampled with seed * 1,000,000 + i")


class Evaluation(Config):
    """The scores of one model: what `scores.json` holds."""

    name: str
    source: str
    """sha256 of the weights, or the name of a baseline."""
    config: EvaluateConfig
    reader: str = READER_VERSION
    scores: dict[Split, dict[str, Score]]
