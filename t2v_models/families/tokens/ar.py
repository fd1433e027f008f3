"""Tokens of a clip one after the other, slot by slot and in each row by row: each is drawn by those before it and the
prompt, as in VideoGPT (Yan et al. 2021, arXiv:2104.10157)."""

from collections.abc import Mapping
from typing import Literal, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor

from t2v_models.batch import Batch
from t2v_models.clips.spec import ClipSpec
from t2v_models.families.layers import at_least_float32
from t2v_models.families.texts import beside
from t2v_models.families.tokens.learner import TokenModel, TokensConfig, chosen, led, uniform
from t2v_models.families.tokens.transformer import Memory, TokenTransformer
from t2v_models.model import Loss, VideoModel
from t2v_models.sampler import Request
from t2v_models.text.encoder import Text


class ArTokensConfig(TokensConfig):
    """The fast mode: it learns most in a CPU's minutes, and a clip takes milliseconds."""

    about = "a causal transformer over the tokens of a video_tokenizer, with cached keys and values"

    name: Literal["ar_tokens"] = "ar_tokens"

    @classmethod
    def tiny(cls) -> "ArTokensConfig":
        return cls.model_validate(cls.small | {"guidance": 8})  # so that words count from the first update on

    def build(self, spec: ClipSpec, parents: Mapping[str, VideoModel]) -> "ArTokens":
        return ArTokens(self, spec, parents["tokenizer"])


@final
class ArTokens(TokenModel):
    """A frozen tokenizer and a causal transformer."""

    able = frozenset({"guidance", "temperature", "known_frames", "avoid"})

    def __init__(self, config: ArTokensConfig, spec: ClipSpec, tokenizer: VideoModel):
        super().__init__(config, spec, tokenizer, causal=True)
        self.config: ArTokensConfig = config

    def learn(self, part: Batch, tokens: Tensor, text: Text, progress: float) -> dict[str, Loss]:
        """Cross-entropy of every token by those before it, nats."""
        logits = self.transformer(before(self.transformer, tokens), text)
        logits = at_least_float32(logits)
        wrong = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="sum")
        right = (logits.detach().argmax(-1) == tokens).sum()
        return {"transformer": Loss(wrong, tokens.numel(), {"right": right.to(wrong)})}

    def guidance(self, request: Request) -> float:
        """That of the request, or of the configuration."""
        return self.config.guidance if request.guidance is None else request.guidance

    def drawn(self, request: Request, text: Text, away: Text, begun: Tensor) -> Tensor:
        """One after the other, behind the known ones, which are the first."""
        network = cast(TokenTransformer, self.average[0])
        draws = uniform(request.seeds, network.count).to(self.device)
        temperature = self.config.temperature if request.temperature is None else request.temperature
        known = int((begun[0] != network.unknown).sum())
        return in_turn(network, text, away, draws, self.guidance(request), temperature, begun[:, :known])


def before(network: TokenTransformer, tokens: Tensor) -> Tensor:
    """What stands before each of tokens `(b, n)`: before the first nothing known."""
    return F.pad(tokens, (1, 0), value=network.unknown)[:, :-1]


def in_turn(
    network: TokenTransformer, text: Text, away: Text, draws: Tensor, guidance: float, temperature: float,
    known: Tensor, memory: bool = True,
) -> Tensor:  # fmt: skip
    """Tokens `(b, n)`, one after the other.

    Args:
        network: a causal one.
        text: of each clip.
        away: what guidance leads away from: no text, or what to avoid.
        draws: in [0, 1), `(b, n)`: each decides about one token.
        guidance: how strongly texts count; 1 is as learnt.
        temperature: of the draws.
        known: int64 `(b, m)`: what the tokens begin with.
        memory: whether keys and values are kept; without, all is worked out anew for each token, to the same end.
    """
    kept = Memory() if memory else None
    tokens, guided = known, guidance != 1
    text = beside(text, away) if guided else text
    begun = F.pad(tokens, (1, 0), value=network.unknown)  # (b, m + 1)
    while tokens.shape[1] < draws.shape[1]:
        new = begun if kept is None else begun[:, kept.tokens :]
        logits = network(torch.cat([new, new]) if guided else new, text, kept)[:, -1].float()
        if guided:
            logits = led(logits, guidance)
        token = chosen(logits, draws[:, tokens.shape[1]], temperature)[:, None]
        tokens, begun = torch.cat([tokens, token], 1), torch.cat([begun, token], 1)
    return tokens
