"""The settings of `modelscope`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from t2v_models import library
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.modelscope.autoencoder import in_groups
from t2v_models.families.rates import Fall, PacedConfig
from t2v_models.text.split import words

SIDE = 8
"""px; `TextToVideoSDPipeline` refuses sides that it does not divide."""


class ModelscopeSettings(PacedConfig):
    """Small enough for half an hour on a core."""

    parent_families: ClassVar[Mapping[str, str]] = {"autoencoder": "frame_autoencoder"}
    earlier: ClassVar[Mapping[str, object]] = {"fine_text": False, "balance": 0.0}
    packages = library.PACKAGES
    about = "ModelScope's U-Net, of diffusers, on the latents of a frame_autoencoder: 't2v export' makes it a pipeline"

    name: Literal["modelscope"] = "modelscope"
    batch_size: int = Field(32, ge=1, description="clips per update, over all ranks")
    autoencoder: Path = Field(
        Path("frame_autoencoder"), description="run folder of a frame_autoencoder, or its name in the same lab"
    )
    widths: tuple[int, ...] = Field(
        (64,), min_length=1, max_length=5, description="channels at each halving of the latents"
    )
    blocks: int = Field(1, ge=1, le=8, description="blocks at each resolution on the way down; one more on the way up")
    fine_text: bool = Field(True, description="the finest resolution looks at words, too, as all others do")
    heads: int = Field(8, ge=1, le=64, description="channels of each part of the width that looks at others by itself")
    words: int | None = Field(
        None, ge=1, le=510, description="most words of a caption; left open, as many as the dataset's longest has"
    )
    text_width: int = Field(64, ge=8, le=4096, description="of a word's vector")
    text_layers: int = Field(0, ge=0, le=32, description="how many times words look at those before them")
    level: float = Field(
        1.7, description="mean of ln sigma of the noise learnt at: rather far, where it is decided what is where"
    )
    balance: float = Field(
        0.5, ge=0, le=1, description="how far errors that change from frame to frame count as much as still ones"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of captions left out, which guidance needs")
    muon_lr: float = Field(0.02, gt=0, le=1, description="Muon step of hidden matrices")
    lr: float = Field(2e-3, gt=0, le=1, description="AdamW step of all other weights")
    decay: Fall = 0.7
    ema_power: float = Field(8.0, gt=0, le=1000, description="of the averaged weights: higher looks back less far")
    steps: int = Field(10, ge=1, le=1000, description="evaluations of the network for one clip")
    guidance: float = Field(2.0, ge=1, le=100, description="how strongly the prompt counts; 1 is as learnt")

    @field_validator("widths")
    @classmethod
    def _of_groups(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        return in_groups(widths)

    @model_validator(mode="after")
    def _heads_share_the_widths(self) -> Self:
        for width in (*self.widths, self.text_width):
            if width % self.heads:
                raise ValueError(f"heads of {self.heads} channels do not share a width of {width}: use multiples")
        return self

    @model_validator(mode="after")
    def _words_become_those_of_a_pipeline(self) -> Self:
        if self.text_encoder.name != "words" or self.text_encoder.positions:
            raise ValueError(
                "modelscope has a text encoder that others can load, of the words of the dataset and their places: "
                "leave text_encoder out"
            )
        return self

    @classmethod
    def tiny(cls) -> Self:
        small = {"batch_size": 4, "widths": (8, 16), "heads": 2, "text_width": 8, "dropout": 0.5}
        return cls.model_validate(small | {"steps": 2, "guidance": 8, "threads": 1})

    @property
    def most_words(self) -> int:
        """Of a caption: of the dataset, unless they were set."""
        assert self.words, "with_captions has counted them"
        return self.words

    @property
    def tokens(self) -> int:
        """Of a text: its words and both ends."""
        return self.most_words + 2

    def for_shapes(self, shapes: Sequence[ClipSpec]) -> Self:
        """As every family; the pipeline takes sides that 8 divides."""
        same = super().for_shapes(shapes)
        if shapes[0].height % SIDE or shapes[0].width % SIDE:
            raise LabError(
                f"{self.name} makes clips whose sides are multiples of {SIDE} px and the dataset's are of "
                f"{shapes[0].sides} px: make one of such clips"
            )
        return same

    def with_captions(self, captions: Sequence[str]) -> Self:
        """As every family.

        Raises:
            LabError: diffusers is not installed; a caption with more words than are read.
        """
        library.require(self.name)
        longest = max(dict.fromkeys(captions), key=lambda caption: len(words(caption)))
        count = len(words(longest))
        most = count if self.words is None else self.words
        if count > most:
            raise LabError(f"caption {longest!r} has {count} words, {self.name} reads {most}: set words={count}")
        return super().with_captions(captions).model_copy(update={"words": most})

    def plan(self, spec: ClipSpec) -> str:
        return f"a clip is made in {self.steps} steps with guidance {self.guidance:g}"
