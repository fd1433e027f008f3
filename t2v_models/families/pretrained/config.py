"""Which pipeline and how it is asked, in one word that every command takes: `diffusers:FOLDER,steps=20,size=64x36`."""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError

from t2v_models.clips.spec import height_and_width, sides
from t2v_models.config import Config, LabError, in_words, near
from t2v_models.sampler import PIPELINE

Sides = Annotated[
    tuple[int, int],
    BeforeValidator(lambda given: height_and_width(given, "size=") if isinstance(given, str) else given),
]


class PipelineConfig(Config):
    """A pipeline and its options; what is left out is the pipeline's own."""

    folder: Path = Field(description="as save_pretrained of diffusers writes it")
    steps: int | None = Field(None, ge=1, description="evaluations of the network a clip")
    frames: int | None = Field(None, ge=1, description="length of what it makes")
    size: Sides | None = Field(None, description="of what it makes, in pixels: 64 or, width first, 64x36")
    guidance: float | None = Field(None, ge=0, description="how strongly the prompt counts")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of weights and arithmetic")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where it runs")
    offload: Literal["no", "model", "layers"] = Field(
        "no", description="what waits in main memory until a GPU needs it: whole networks, or layer by layer"
    )

    @classmethod
    def of(cls, name: str) -> Self:
        """From the word on a command line.

        Raises:
            LabError: no folder, an option that is none or is given twice, or one with a value that is not allowed.
        """
        folder, *options = re.split(r",(?=\w+=)", name.removeprefix(PIPELINE))
        if not folder.strip() or re.match(r"\w+=", folder):
            raise LabError(f"{name} names no folder: write {PIPELINE}FOLDER, and options behind it, as ,steps=20")
        pairs = [option.split("=", 1) for option in options]
        given = dict(pairs)
        if "folder" in given:
            raise LabError(f"{name} says folder=, and the folder stands before the first comma: leave it out")
        if twice := [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]:
            raise LabError(f"{name} says {twice[0]}= twice: leave one out")
        if unknown := [key for key in given if key not in cls.model_fields]:
            allowed = [key for key in cls.model_fields if key != "folder"]
            raise LabError(f"{name} says {unknown[0]}=, which is no option of a pipeline: {near(unknown[0], allowed)}")
        try:
            return cls.model_validate({"folder": Path(folder).expanduser()} | given)
        except ValidationError as error:
            raise LabError(f"{name}: {in_words(error, cls)}") from error

    @property
    def options(self) -> dict[str, object]:
        """Those that change its clips and were given."""
        given = self.model_dump(exclude_defaults=True, exclude={"folder", "device", "offload"})
        return given | ({"size": sides(*self.size)} if self.size else {})

    @property
    def name(self) -> str:
        """Of the folder, and what changes its clips: `wan,steps=20`."""
        return ",".join([self.folder.resolve().name, *(f"{key}={value}" for key, value in self.options.items())])
