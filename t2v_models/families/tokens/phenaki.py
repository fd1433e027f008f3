"""Masked tokens: a transformer that sees all tokens of a clip but hidden ones tells those, and makes a clip in a few
steps (MaskGIT: Chang et al. 2022, arXiv:2202.04200), of text and of first frames as in Phenaki (Villegas et al. 2022,
arXiv:2210.02399, sections 2.2 and 2.3). All at once as there, or one slot after the other (blocks in turn, masked
tokens within: Arriola et al. 2025, arXiv:2503.09573): then a clip in training ends with the slot that is told.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal, Self, cast, final

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from t2v_models.batch import Batch
from t2v_models.clips.spec import ClipSpec
from t2v_models.families.ema import Average
from t2v_models.families.layers import at_least_float32
from t2v_models.families.tokens.critic import CriticKind, TokenCritic, critic_loss
from t2v_models.families.tokens.learner import TokenModel, TokensConfig, chosen, uniform
from t2v_models.families.tokens.masks import SHARES, Order, Schedule, hidden_tokens
from t2v_models.families.tokens.transformer import TokenTransformer
from t2v_models.families.tokens.unmask import Line, Unmasking, unmasked
from t2v_models.model import Loss, VideoModel
from t2v_models.sampler import Request
from t2v_models.text.encoder import Text


class PhenakiConfig(TokensConfig):
    """Steps and guidance are those that served best after half an hour on two cores, the order that of a prototype."""

    about = "a transformer that fills in hidden tokens of a video_tokenizer, all of a clip in a few steps"

    name: Literal["phenaki"] = "phenaki"
    schedule: Schedule = Field("cosine", description="share of hidden tokens by step, in training and in sampling")
    in_turn: bool = Field(
        True,
        description="slots are told one after the other, each by those before it; else all at once, so that known "
        "frames may be anywhere",
    )
    primed: float = Field(
        0.15, ge=0, le=1, description="share of clips whose first slots are never hidden, where all are told at once"
    )
    images_first: float = Field(0.0, ge=0, lt=1, description="share of the run, its start, that sees first frames only")
    rarity: float = Field(
        0.0, ge=0, le=1, description="how much more rare codes count: a code's weight is its frequency to minus this"
    )
    steps: int = Field(32, ge=1, le=1024, description="evaluations of the network for one clip")
    order: Order = Field("random", description="which drawn tokens are kept first; that of a critic needs one")
    order_noise: float = Field(
        4.5, ge=0, le=100, description="noise on the order by confidence or critic at the first step; at the last 0"
    )
    temperature: float = Field(0.8, ge=0, le=100, description="of the draw of a token at the first step; 0: likeliest")
    last_temperature: float | None = Field(None, ge=0, le=100, description="the same at the last step; as at the first")
    guidance: float = Field(2.0, ge=0, le=100, description="how strongly the prompt counts at the first step")
    last_guidance: float | None = Field(None, ge=0, le=100, description="the same at the last step; as at the first")
    critic: CriticKind = Field(
        "none", description="what learns to tell drawn tokens from real ones: a transformer of its own, or a head"
    )
    critic_layers: int = Field(2, ge=1, le=64, description="layers of a critic of its own")

    earlier: ClassVar[Mapping[str, object]] = {**TokensConfig.earlier, "in_turn": False}

    @model_validator(mode="after")
    def _critic_for_its_order(self) -> Self:
        if self.order == "critic" and self.critic == "none":
            raise ValueError("the order is a critic's and there is none: use critic own or self, or another order")
        return self

    @classmethod
    def tiny(cls) -> "PhenakiConfig":
        strong = {"guidance": 8, "steps": 8, "critic": "own", "critic_layers": 1}
        return cls.model_validate(cls.small | strong)

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "Phenaki":
        return Phenaki(self, spec, parents["tokenizer"])


@final
class Phenaki(TokenModel):
    """A frozen tokenizer, a transformer that sees all tokens, and maybe a critic."""

    able = frozenset({"guidance", "steps", "temperature", "known_frames", "places", "avoid"})

    def __init__(self, config: PhenakiConfig, spec: ClipSpec, tokenizer: VideoModel):
        super().__init__(config, spec, tokenizer, causal=False)
        self.config: PhenakiConfig = config
        if config.in_turn:
            self.able = self.able - {"places"}
        self.critic = self._critic() if config.critic != "none" else None
        self.average = Average([*self.taught.values()])

    def _critic(self) -> TokenCritic:
        config, network = self.config, self.transformer
        if config.critic == "self":
            return TokenCritic(None, config.width)
        own = TokenTransformer(
            network.shape, self.tokenizer.quantiser, self.text.width, config.width, config.critic_layers, config.heads,
            causal=False, distances=config.distances, cross=config.cross_attention, outputs=1,
        )  # fmt: skip
        return TokenCritic(own, config.width)

    @property
    def taught(self) -> Mapping[str, TokenTransformer | TokenCritic]:
        """What learns, by name."""
        return {"transformer": self.transformer} | ({"critic": self.critic} if self.critic else {})

    def learn(self, part: Batch, tokens: Tensor, text: Text, progress: float) -> dict[str, Loss]:
        """Cross-entropy of hidden tokens by those that are shown, nats; and what a critic says of such as are drawn."""
        if progress < self.config.images_first:
            tokens = tokens[:, : self.per_slot]
        last, hidden = self._hidden(part, tokens)
        draws = part.rand(tokens.shape[1])
        found: dict[str, Loss] = {}
        for slot in sorted(set(last.tolist())):  # clips that end with it: later slots are not there
            rows, n = last == slot, (slot + 1) * self.per_slot
            said = Text(text.embeddings[rows], text.mask[rows])
            for name, loss in self._told(tokens[rows, :n], hidden[rows, :n], said, draws[rows, :n]).items():
                found[name] = found[name] + loss if name in found else loss
        return found

    def _told(self, tokens: Tensor, hidden: Tensor, text: Text, draws: Tensor) -> dict[str, Loss]:
        """The losses of clips, of which some tokens are hidden; draws in [0, 1) decide what a critic sees there."""
        logits = self.transformer(tokens.masked_fill(hidden, self.transformer.unknown), text)
        logits = at_least_float32(logits)
        losses = {"transformer": masked_loss(logits, tokens, hidden, self.weights)}
        if self.critic:
            drawn = torch.where(hidden, chosen(logits.detach() - self.weights.log(), draws, temperature=1.0), tokens)
            losses["critic"] = critic_loss(self.critic(drawn, text, self.transformer), drawn, tokens, hidden)
        return losses

    @property
    def per_slot(self) -> int:
        """Tokens of a slot."""
        return self.transformer.shape[1] * self.transformer.shape[2]

    def _hidden(self, part: Batch, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The last slot that each clip shows, `(b,)`, and which tokens are hidden, bool `(b, n)`: in turn some of that
        slot, which is any; else of all slots but the first ones of clips that are primed."""
        slots = tokens.shape[1] // self.per_slot
        slot = torch.arange(tokens.shape[1], device=tokens.device) // self.per_slot
        share = SHARES[self.config.schedule](part.rand())
        if self.config.in_turn:
            last = (part.rand() * slots).long()
            open_ = slot == last[:, None]
        else:
            kept = (part.rand() * (slots - 1)).ceil() * (part.rand() < self.config.primed)
            last = torch.full_like(kept, slots - 1, dtype=torch.long)
            open_ = slot >= kept[:, None]
        return last, hidden_tokens(open_, share, part.rand(tokens.shape[1]))

    def guidance(self, request: Request) -> float:
        """The one of first and last step that is farther from 1."""
        return max(self._guidance(request), key=lambda strength: abs(strength - 1))

    def _guidance(self, request: Request) -> Line:
        return _line(request.guidance, self.config.guidance, self.config.last_guidance)

    def drawn(self, request: Request, text: Text, away: Text, begun: Tensor) -> Tensor:
        """A few at a time; in turn each slot in its share of the steps."""
        config, network = self.config, cast(TokenTransformer, self.average[0])
        temperature = _line(request.temperature, config.temperature, config.last_temperature)
        how = Unmasking(
            config.schedule, request.steps or config.steps, config.order, self._guidance(request), temperature,
            config.order_noise,
        )  # fmt: skip
        critic = cast(TokenCritic, self.average[1]) if config.order == "critic" else None
        judged = (lambda tokens: critic(tokens, text, network)) if critic else None
        shown = partial(unmasked, network, text, away, critic=judged, tilt=self.weights.log())
        if not config.in_turn:
            steps = len(how.left(int((begun[0] == network.unknown).sum())))
            return shown(begun, uniform(request.seeds, 2, steps, network.count).to(self.device), how)
        slots, tokens = network.shape[0], begun[:, :0]
        draws = uniform(request.seeds, slots, 2, how.steps, network.count).to(self.device)
        for slot in range(slots):
            n = (slot + 1) * self.per_slot
            steps = max(1, how.steps * (slot + 1) // slots - how.steps * slot // slots)
            tokens = torch.cat([tokens, begun[:, tokens.shape[1] : n]], 1)
            tokens = shown(tokens, draws[:, slot, :, :, :n], replace(how, steps=steps))
        return tokens

    @property
    def weights(self) -> Tensor:
        """How much each code counts, `(v,)`. Their logarithms are what logits learn beside probabilities."""
        return rarity_weights(self.tokenizer.usage.counts, self.config.rarity)


def _line(asked: float | None, first: float, last: float | None) -> Line:
    """What a request asks for, at all steps; or that of the configuration, at the last step as at the first if it does
    not say another."""
    return (first, first if last is None else last) if asked is None else (asked, asked)


def masked_loss(logits: Tensor, tokens: Tensor, hidden: Tensor, weights: Tensor) -> Loss:
    """Cross-entropy of tokens `(b, n)` at hidden places only, each weighted by its code, `(v,)`."""
    each = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none") * weights[tokens]
    right = ((logits.detach().argmax(-1) == tokens) & hidden).sum()
    return Loss((each * hidden).sum(), float(hidden.sum()), {"right": right.to(each)})


def rarity_weights(counts: Tensor, power: float) -> Tensor:
    """Of codes seen so often `(v,)`: frequency to minus the power, and 1 on average over tokens."""
    share = (counts + 1) / (counts + 1).sum()
    weights = share**-power
    return weights / (weights * share).sum()
