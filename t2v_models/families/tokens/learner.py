"""What the second stages share: a frozen tokenizer, a transformer over its tokens, optimisers and averages."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from operator import not_
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import Optimizer

from t2v_models.batch import Batch, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.ema import Average, power_share
from t2v_models.families.known import KnownFrames
from t2v_models.families.muon import BETAS, Muon
from t2v_models.families.parents import fitting
from t2v_models.families.rates import Fall, PacedConfig, PacedModel
from t2v_models.families.texts import check_dropout, check_guidance, heard, left_out, none_like
from t2v_models.families.tokens.critic import TokenCritic
from t2v_models.families.tokens.grid import Grid
from t2v_models.families.tokens.tokenizer import VideoTokenizer
from t2v_models.families.tokens.transformer import TokenTransformer
from t2v_models.model import Loss, VideoModel
from t2v_models.sampler import Request
from t2v_models.text.encoder import Text


class TokensConfig(PacedConfig):
    """Settings of any transformer over tokens."""

    batch_size: int = Field(64, ge=1, description="clips per update, over all ranks")
    tokenizer: Path = Field(
        Path("video_tokenizer"), description="run folder of a video_tokenizer, or its name in the same lab"
    )
    width: int = Field(128, ge=8, le=8192, description="of a token inside the transformer")
    layers: int = Field(4, ge=1, le=64, description="how many times tokens look at each other")
    cross_attention: bool = Field(
        False, exclude_if=not_, description="tokens look at words by attention of its own, and words do not change"
    )
    distances: bool = Field(True, description="how a token looks at others depends on how far away they are")
    heads: int = Field(4, ge=1, le=64, description="parts of the width that look at others by themselves")
    dropout: float = Field(0.1, ge=0, le=1, description="share of captions left out, which guidance needs; 1: all")
    guidance: float = Field(1.5, ge=0, le=100, description="how strongly the prompt counts; 1 is as learnt")
    muon_lr: float = Field(0.02, gt=0, le=1, description="Muon step of hidden matrices")
    lr: float = Field(2e-3, gt=0, le=1, description="AdamW step of all other weights")
    decay: Fall = 0.6
    ema_power: float = Field(8.0, gt=0, le=1000, description="of the averaged weights: higher looks back less far")
    temperature: float = Field(1.0, ge=0, le=100, description="of the draw of a token; 0 takes the likeliest")

    parent_families: ClassVar[Mapping[str, str]] = {"tokenizer": "video_tokenizer"}
    earlier: ClassVar[Mapping[str, object]] = {"distances": False}
    small: ClassVar[dict[str, object]] = {
        "batch_size": 4, "width": 16, "layers": 2, "heads": 2, "dropout": 0.5, "threads": 1
    }  # fmt: skip

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not share a width of {self.width}: use a multiple")
        return self

    @model_validator(mode="after")
    def _no_captions_no_guidance(self) -> Self:
        check_dropout(self.dropout, self.guidance)
        return self

    @property
    def told(self) -> Literal["tokens", "sum", "order"]:
        return "tokens"

    def tokens_of(self, dataset: str) -> Path | None:
        from t2v_models.shards.tokens import place  # with pyarrow, which a served model does without

        return folder if (folder := place(self.tokenizer, dataset)).is_dir() else None


class TokenModel(PacedModel):
    """A transformer that learns the tokens of clips; sampling uses averaged weights.

    Raises:
        LabError: what is to be the tokenizer is none, or one of frames of another size.
    """

    frozen = ("tokenizer",)
    config: TokensConfig

    def __init__(self, config: TokensConfig, spec: ClipSpec, tokenizer: VideoModel, causal: bool):
        super().__init__()
        self.config = config
        self.spec = spec
        self.text = config.text_encoder.build()
        self.tokenizer = fitting(
            tokenizer, VideoTokenizer, "video_tokenizer", "tokenizer", spec, config.tokenizer
        ).requires_grad_(False)
        grid = self.tokenizer.grid
        shape = grid.slots(spec.frames), grid.rows, grid.columns
        self.transformer = TokenTransformer(
            shape, self.tokenizer.quantiser, self.text.width, config.width, config.layers, config.heads, causal,
            config.distances, config.cross_attention,
        )  # fmt: skip
        self.average = Average([self.transformer])

    def new_optimizers(self) -> dict[str, Optimizer]:
        """One for each network."""
        optimizers: dict[str, Optimizer] = {}
        for name, network in self.taught.items():
            named = {id(weight) for weight in network.hidden}
            others = [weight for weight in network.parameters() if id(weight) not in named]
            optimizers[name] = Muon(network.hidden, others, self.config.muon_lr, self.config.lr, BETAS)
        return optimizers

    @property
    def taught(self) -> Mapping[str, TokenTransformer | TokenCritic]:
        """What learns, by name."""
        return {"transformer": self.transformer}

    def losses(self, part: Batch, step: int, progress: float) -> dict[str, Loss]:
        """Of the tokens of each clip; some captions are left out."""
        text = left_out(self.text(part.captions), part.rand() < self.config.dropout)
        return self.learn(part, self._tokens(part), text, progress)

    @torch.no_grad()
    def _tokens(self, part: Batch) -> Tensor:
        """Of each clip `(b, n)`: as they were stored, or of its frames."""
        tokens = self.tokenizer.tokens(to_video(part.frames)) if part.tokens is None else part.tokens
        return tokens.flatten(1)

    @abstractmethod
    def learn(self, part: Batch, tokens: Tensor, text: Text, progress: float) -> dict[str, Loss]:
        """The losses of what is taught by tokens `(b, n)` with texts, sums over those that were to be told."""

    def after_step(self, step: int, progress: float) -> None:
        """Averages of weights."""
        self.average.update(power_share(step, self.config.ema_power))

    @property
    def stride(self) -> int:
        """`sampler.Strides`: a slot."""
        return self.tokenizer.grid.slot

    def check(self, request: Request) -> None:
        """As every model; guidance needs captions that were left out in training, and known frames fill slots.

        Raises:
            LabError: so.
        """
        super().check(request)
        check_slots(self.name, self.tokenizer.grid, self.settled(request), self.spec.frames)
        check_guidance(self.name, self.text, self.guidance(request), self.config.dropout, request.avoid)

    @abstractmethod
    def guidance(self, request: Request) -> float:
        """How strongly prompts count, at most."""

    def make(self, request: Request) -> Tensor:
        """By the averaged weights. Each clip is drawn by its own seed.

        Known frames come back as they are. Seen are those that fill slots: of first ones the last, as many as do.
        """
        network, grid, frames = self.transformer, self.tokenizer.grid, self.spec.frames
        text, count = heard(self.text(request.prompts), self.config.dropout), len(request.seeds)
        away = self.text([request.avoid] * count) if request.avoid else none_like(text)
        begun = torch.full((count, network.count), network.unknown, device=self.device)
        given = KnownFrames.of(request, frames, self.device)
        if given is None:
            return self._video(self.drawn(request, text, away, begun), frames)
        before = 0 if request.places else (int(given.known[0].sum()) - 1) % grid.slot  # slots begin behind so many
        tokens = self.tokenizer.tokens(given.video[:, :, before:])
        seen = tokens.masked_fill(~grid.whole(given.known[:, before:])[..., None, None], network.unknown).flatten(1)
        begun[:, : seen.shape[1]] = seen
        video = self._video(self.drawn(request, text, away, begun), frames - before)
        return given.over(torch.cat([given.video[:, :, :before], video], 2))

    @abstractmethod
    def drawn(self, request: Request, text: Text, away: Text, begun: Tensor) -> Tensor:
        """The tokens of clips `(b, n)`.

        Args:
            request: seeds and wishes.
            text: of each clip.
            away: what guidance leads away from: no text, or what to avoid.
            begun: int64 `(b, n)`: those that are known, of all clips in the same places; the others are `unknown`.
        """

    def _video(self, tokens: Tensor, frames: int) -> Tensor:
        return self.tokenizer.video(tokens.view(-1, *self.transformer.shape), frames)


def check_slots(name: str, grid: Grid, request: Request, frames: int) -> None:
    """See that of each slot all frames are known or none, for its tokens are of all. First frames may end anywhere:
    slots are then counted back from their end. The request is settled.

    Raises:
        LabError: so; which are missing.
    """
    known = request.places or ()
    for frame in known:
        slot = grid.beside(frame, frames)
        if missing := [str(other) for other in slot if other not in known]:
            raise LabError(
                f"{name} knows frames {slot[0]} to {slot[-1]} together and {', '.join(missing)} of them would be "
                "missing: give them too, maybe the same picture again, or choose a model that needs none, as diffusion"
            )


def uniform(seeds: Sequence[int], *shape: int) -> Tensor:
    """Numbers in [0, 1), `(b, *shape)`, row i by `seeds[i]`."""
    return torch.stack([torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def led(both: Tensor, guidance: float) -> Tensor:
    """Logits of texts, and behind them as many of what guidance leads away from, to those that are guided, half as many
    (Ho and Salimans 2022, arXiv:2207.12598, eq. 6, where guidance is 1 + w)."""
    said, unsaid = both.chunk(2)
    return unsaid + guidance * (said - unsaid)


def chosen(logits: Tensor, draws: Tensor, temperature: float) -> Tensor:
    """Of logits `(…, v)` the code that a draw in [0, 1) falls on, `(…)`; at temperature 0 the likeliest."""
    if not temperature:
        return logits.argmax(-1)
    upto = (logits / temperature).double().softmax(-1).cumsum(-1)
    return (upto <= draws[..., None].double()).sum(-1).clamp_max(logits.shape[-1] - 1)
