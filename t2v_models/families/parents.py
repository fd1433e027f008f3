"""What a model builds on: another model, which must be of the right family and of clips of the same size."""

from pathlib import Path
from typing import TypeVar

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.model import VideoModel

M = TypeVar("M", bound=VideoModel)


def fitting(parent: VideoModel, model: type[M], family: str, key: str, spec: ClipSpec, place: Path) -> M:
    """The parent, if it is a model of the family and of clips of this size.

    Args:
        parent: what was found.
        model: what models of the family are.
        family: its name.
        key: the setting that names the parent.
        spec: of the clips to be learnt.
        place: where the parent lies.

    Raises:
        LabError: it is not.
    """
    if not isinstance(parent, model):
        raise LabError(f"{place} is a run of {parent.name}: name one of {family} with --set {key}=RUN")
    own = parent.spec
    if (own.height, own.width) != (spec.height, spec.width):
        raise LabError(
            f"the {key} {place} is of clips of {own.sides} px, the dataset of {spec.sides} px: train {family} on that "
            "dataset"
        )
    return parent
