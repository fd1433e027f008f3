"""Tokens of a clip in a few steps: all that are hidden are drawn at once, some are kept, the others hidden again
(MaskGIT: Chang et al. 2022, arXiv:2202.04200, section 3.2).

Letters in shapes: b clips, n tokens, v codes, k steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from t2v_models.families.texts import beside
from t2v_models.families.tokens.learner import chosen, led
from t2v_models.families.tokens.masks import Order, Schedule, counts_left, halton
from t2v_models.families.tokens.transformer import TokenTransformer
from t2v_models.text.encoder import Text

Line = tuple[float, float]
"""A number at the first step and at the last; between them it changes evenly."""


@dataclass(frozen=True)
class Unmasking:
    """How hidden tokens are shown."""

    schedule: Schedule
    steps: int
    order: Order
    guidance: Line
    """How strongly texts count; 1 is as learnt."""
    temperature: Line
    """Of the draw of tokens."""
    order_noise: float
    """Of the order by confidence or by a critic, at the first step; at the last it is 0."""

    def left(self, hidden: int) -> list[int]:
        """How many of so many are hidden after each step."""
        return counts_left(self.schedule, hidden, self.steps)


def unmasked(
    network: TokenTransformer, text: Text, away: Text, begun: Tensor, draws: Tensor, how: Unmasking,
    critic: Callable[[Tensor], Tensor] | None = None, tilt: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Tokens `(b, n)`: the known ones, and others in place of unknown ones.

    Args:
        network: one that sees all tokens.
        text: of each clip.
        away: what guidance leads away from: no text, or what to avoid.
        begun: int64 `(b, n)`, of all clips unknown in the same places.
        draws: in [0, 1), `(b, 2, k, n)`: which token is drawn, and which is kept.
        how: steps, order and strengths.
        critic: for the order of that name: how real tokens `(b, n)` look; then all but known ones may be hidden again.
        tilt: `(v,)`, what logits are too high by: where codes were weighted, the logarithms of their weights.
    """
    tokens, may = begun, begun == network.unknown
    hidden, left = may, how.left(int(may[0].sum()))
    for i, count in enumerate(left):
        done = i / max(1, len(left) - 1)
        logits = guided(network, tokens, text, away, _between(how.guidance, done))
        if tilt is not None:
            logits = logits - tilt
        tokens = torch.where(hidden, chosen(logits, draws[:, 0, i], _between(how.temperature, done)), tokens)
        first = _first(how, tokens, logits, draws[:, 1, 0], network.shape[1:], critic)
        if how.order in ("confidence", "critic"):
            first = first - how.order_noise * (1 - done) * (-draws[:, 1, i].clamp_min(1e-12).log()).log()  # Gumbel
        hidden = _last(first, may if critic else hidden, count)
        tokens = tokens.masked_fill(hidden, network.unknown)
    return tokens


def guided(network: TokenTransformer, tokens: Tensor, text: Text, away: Text, guidance: float) -> Tensor:
    """Logits `(b, n, v)`, as `led` has them."""
    if guidance == 1:
        alone: Tensor = network(tokens, text).float()
        return alone
    both: Tensor = network(torch.cat([tokens, tokens]), beside(text, away)).float()
    return led(both, guidance)


def _between(line: Line, done: float) -> float:
    return line[0] + done * (line[1] - line[0])


def _first(
    how: Unmasking, tokens: Tensor, logits: Tensor, by_chance: Tensor, slot: tuple[int, int],
    critic: Callable[[Tensor], Tensor] | None,
) -> Tensor:  # fmt: skip
    """The higher, the sooner a token is kept, `(b, n)`; `by_chance` is the same at all steps."""
    match how.order:
        case "random":
            return by_chance
        case "halton":
            turn = torch.from_numpy(halton((tokens.shape[1] // prod(slot), *slot))).to(tokens.device).argsort()
            return -turn.to(by_chance).expand_as(tokens)
        case "confidence":
            known = logits.log_softmax(-1)
            return known.gather(-1, tokens[..., None])[..., 0]
        case "critic":
            assert critic
            return critic(tokens).float()


def _last(first: Tensor, may: Tensor, count: int) -> Tensor:
    """The `count` lowest of those that may be, bool `(b, n)`."""
    return first.masked_fill(~may, torch.inf).argsort(1).argsort(1) < count
