"""Tokens of a clip one after the other, slot by slot and in each row by row: each is drawn by those before it and the
prompt, as in VideoGPT (Yan et al. 2021, arXiv:2104.10157)."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from t2v_models.batch import Batch, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.families.texts import beside, none_like
from t2v_models.families.tokens.learner import TokenModel, TokensConfig
from t2v_models.families.tokens.transformer import Memory, TokenTransformer
from t2v_models.model import Loss, VideoModel
from t2v_models.sampler import Request
from t2v_models.text.encoder import Text


class ArTokensConfig(TokensConfig):
    """The fast mode: it learns most in a CPU's minutes, and a clip takes milliseconds."""

    about = "a causal transformer over the tokens of a video_tokenizer, with cached keys and values"

    name: Literal["ar_tokens"] = "ar_tokens"
    guidance: float = Field(1.5, ge=0, le=100, description="how strongly the prompt counts; 1 is as learnt")

    @classmethod
    def tiny(cls) -> "ArTokensConfig":
        return cls.model_validate(cls.small | {"guidance": 8})  # so that words count from the first update on

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "ArTokens":
        return ArTokens(self, spec, parents["tokenizer"])


@final
class ArTokens(TokenModel):
    """A frozen tokenizer and a causal transformer."""

    able = frozenset({"guidance", "first_frames", "avoid"})

    def __init__(self, config: ArTokensConfig, spec: ClipSpec, tokenizer: VideoModel):
        super().__init__(config, spec, tokenizer, causal=True)
        self.config: ArTokensConfig = config

    def loss(self, part: Batch, tokens: Tensor, text: Text) -> Loss:
        """Cross-entropy of every token by those before it, nats."""
        logits = self.transformer(before(self.transformer, tokens), text)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        wrong = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="sum")
        right = (logits.detach().argmax(-1) == tokens).sum()
        return Loss(wrong, tokens.numel(), {"right": right.to(wrong)})

    def guidance(self, request: Request) -> float:
        """That of the request, or of the configuration."""
        return self.config.guidance if request.guidance is None else request.guidance

    def make(self, request: Request) -> Tensor:
        """By the averaged weights. Each clip is drawn by its own seed.

        Frames that it begins with come back as they are; of them the last ones are seen, as many as fill slots.
        """
        network, grid, frames = cast(TokenTransformer, self.average[0]), self.tokenizer.grid, self.spec.frames
        text, count = self.text(request.prompts), len(request.seeds)
        away = self.text([request.avoid] * count) if request.avoid else none_like(text)
        draws = uniform(request.seeds, network.count).to(self.device)
        how = draws, self.guidance(request), self.config.temperature
        if request.first_frames is None:
            return self._video(drawn(network, text, away, *how), frames)
        given = to_video(request.first_frames).to(self.device)
        unseen = (given.shape[2] - 1) % grid.slot
        known = self.tokenizer.tokens(given[:, :, unseen:]).flatten(1)
        video = self._video(drawn(network, text, away, *how, known), frames - unseen)
        return torch.cat([given, video[:, :, given.shape[2] - unseen :]], 2)

    def _video(self, tokens: Tensor, frames: int) -> Tensor:
        return self.tokenizer.video(tokens.view(-1, *self.transformer.shape), frames)


def before(network: TokenTransformer, tokens: Tensor) -> Tensor:
    """What stands before each of tokens `(b, n)`: before the first nothing known."""
    return F.pad(tokens, (1, 0), value=network.unknown)[:, :-1]


def uniform(seeds: Sequence[int], count: int) -> Tensor:
    """Numbers in [0, 1), `(b, count)`, row i by `seeds[i]`."""
    return torch.stack([torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def drawn(
    network: TokenTransformer, text: Text, away: Text, draws: Tensor, guidance: float, temperature: float,
    known: Tensor | None = None, memory: bool = True,
) -> Tensor:  # fmt: skip
    """Tokens `(b, n)`, one after the other.

    Args:
        network: a causal one.
        text: of each clip.
        away: what guidance leads away from: no text, or what to avoid.
        draws: in [0, 1), `(b, n)`: each decides about one token.
        guidance: how strongly texts count; 1 is as learnt.
        temperature: of the draws.
        known: `(b, m)`: what the tokens begin with.
        memory: whether keys and values are kept; without, all is worked out anew for each token, to the same end.
    """
    kept = Memory() if memory else None
    tokens = draws.new_zeros(len(draws), 0, dtype=torch.long) if known is None else known
    guided = guidance != 1
    text = beside(text, away) if guided else text
    begun = F.pad(tokens, (1, 0), value=network.unknown)  # (b, m + 1)
    while tokens.shape[1] < draws.shape[1]:
        new = begun if kept is None else begun[:, kept.tokens :]
        logits = network(torch.cat([new, new]) if guided else new, text, kept)[:, -1].float()
        if guided:
            said, unsaid = logits.chunk(2)
            logits = unsaid + guidance * (said - unsaid)
        token = chosen(logits, draws[:, tokens.shape[1]], temperature)[:, None]
        tokens, begun = torch.cat([tokens, token], 1), torch.cat([begun, token], 1)
    return tokens


def chosen(logits: Tensor, draws: Tensor, temperature: float) -> Tensor:
    """Of logits `(…, v)` the code that a draw in [0, 1) falls on, `(…)`; at temperature 0 the likeliest."""
    if not temperature:
        return logits.argmax(-1)
    upto = (logits / temperature).double().softmax(-1).cumsum(-1)
    return (upto <= draws[..., None].double()).sum(-1).clamp_max(logits.shape[-1] - 1)
