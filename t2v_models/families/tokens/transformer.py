"""One transformer over the tokens of a clip and the words before them, for two families: it sees earlier tokens only
(`ar_tokens`) or all (`phenaki`, where some are hidden).

Letters in shapes: b clips, n tokens, l words, p = 1 + l of the prefix, v codes, w the width, k heads.
"""

from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.families.tokens.quantise import Quantiser
from t2v_models.text.encoder import Text

BIAS_RATE = 8.0
"""How many times as fast as other weights biases of distances learn: they are of the size of 1 when they matter."""
WORD_STD = 0.3
"""Of word vectors at the start, if a word comes as a unit vector, as of the text encoder `words`."""


@dataclass
class Seen:
    """Keys and values of one layer for what it has seen, so that each token is looked at once."""

    keys: Tensor
    """`(b, k, room, w / k)`."""
    values: Tensor
    count: int = 0

    def extended(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All so far, with these."""
        first, self.count = self.count, self.count + keys.shape[2]
        self.keys[:, :, first : self.count] = keys
        self.values[:, :, first : self.count] = values
        return self.keys[:, :, : self.count], self.values[:, :, : self.count]


class Memory:
    """What a transformer has seen of clips it makes token by token: the prefix, and so many tokens."""

    def __init__(self) -> None:
        self.layers: list[Seen] = []  # none until the first call
        self.tokens = 0


class Layer(nn.Module):
    """Tokens look at others, then each changes by itself: norms first, queries and keys of unit size (Dehghani et al.
    2023, arXiv:2302.05442), squared ReLU (So et al. 2021, arXiv:2109.08668).

    Args:
        width: w.
        heads: k.
        distances: how many there are between tokens, each of which has a bias of its own in each head, learnt from 0
            (Raffel et al. 2020, arXiv:1910.10683, section 2.1); 0: there is no such bias.
        listens: whether tokens look at words by cross-attention.
    """

    def __init__(self, width: int, heads: int, distances: int, listens: bool) -> None:
        super().__init__()
        self.heads = heads
        self.enter = nn.Linear(width, 3 * width, bias=False)
        self.leave = nn.Linear(width, width, bias=False)
        self.widen, self.narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        self.distance_bias = nn.Parameter(torch.zeros(heads, distances)) if distances else None
        self.listening = Listening(width, heads) if listens else None

    def forward(
        self, h: Tensor, sees: Tensor, apart: Tensor, seen: Seen | None, words: Tensor, hears: Tensor
    ) -> Tensor:
        """`(b, n, w)`, of which each row sees where the bias `(b, 1, n, …)` is 0 and not minus infinity.

        The last rows and keys are of tokens, whose numbers of distances are `apart`, int64 `(rows, keys)`. Words
        `(b, p, w)`, of which those are heard where a bias `(b, 1, 1, p)` is 0, are there if the layer listens.
        """
        if self.distance_bias is not None:
            rows, keys = sees.shape[-2] - apart.shape[0], sees.shape[-1] - apart.shape[1]
            sees = sees + F.pad(BIAS_RATE * self.distance_bias[:, apart], (keys, 0, rows, 0))
        query, key, value = _heads(self.enter(F.rms_norm(h, h.shape[-1:])), 3, self.heads)
        query, key = F.rms_norm(query, query.shape[-1:]), F.rms_norm(key, key.shape[-1:])
        if seen:
            key, value = seen.extended(key, value)
        h = h + self.leave(_looked(query, key, value, sees))
        if self.listening is not None:
            h = h + self.listening(h, words, hears)
        inner = F.relu(self.widen(F.rms_norm(h, h.shape[-1:]))).square()
        changed: Tensor = h + self.narrow(inner)
        return changed


class Listening(nn.Module):
    """Tokens look at words, which stay as they are: cross-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask = nn.Linear(width, width, bias=False)
        self.say = nn.Linear(width, 2 * width, bias=False)
        self.leave = nn.Linear(width, width, bias=False)

    def forward(self, h: Tensor, words: Tensor, hears: Tensor) -> Tensor:
        """What is added to `(b, n, w)`."""
        (query,) = _heads(self.ask(F.rms_norm(h, h.shape[-1:])), 1, self.heads)
        key, value = _heads(self.say(words), 2, self.heads)
        query, key = F.rms_norm(query, query.shape[-1:]), F.rms_norm(key, key.shape[-1:])
        added: Tensor = self.leave(_looked(query, key, value, hears))
        return added


def _heads(parts: Tensor, count: int, heads: int) -> Tensor:
    """`(b, n, count w)` as `(count, b, k, n, w / k)`."""
    b, n, width = parts.shape
    return parts.view(b, n, count, heads, width // count // heads).permute(2, 0, 3, 1, 4)


def _looked(query: Tensor, key: Tensor, value: Tensor, sees: Tensor) -> Tensor:
    """Attention by plain products, `(b, n, w)`: on CPUs the fused function's way back takes longer."""
    weights = (query @ key.transpose(-1, -2) * key.shape[-1] ** -0.5 + sees.to(query)).softmax(-1)
    seen: Tensor = (weights.to(value) @ value).transpose(1, 2).flatten(2)
    return seen


class TokenTransformer(nn.Module):
    """Tokens and texts to the logits of codes.

    A token is a vector of its own, a linear map of its code where codes do not learn, and those of its slot, row and
    column. How it looks at others depends also on how many slots, rows and columns these are away (as in Liu et al.
    2021, arXiv:2106.13230, section 3.2). What is unknown is the token v. Words stand before all tokens as a prefix, or
    tokens look at them by cross-attention; either way the sum of the words over the root of their number is added to
    each token. A vector of silence stands before the words; where there are none, one for that is added: the null text,
    learnt where captions are left out.

    Args:
        shape: (s, y, x) of the tokens of a clip.
        quantiser: of their codes.
        text: length of a word's vector.
        width: w.
        layers: how many times tokens look at each other.
        heads: k.
        causal: whether each sees those before it only.
        distances: whether it counts how far away others are.
        cross: whether they look at words by cross-attention.
        outputs: numbers made of each token; by default v, the logits of codes.
    """

    def __init__(
        self, shape: tuple[int, int, int], quantiser: Quantiser, text: int, width: int, layers: int, heads: int,
        causal: bool, distances: bool = True, cross: bool = False, outputs: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape, self.causal, self.unknown, self.heads = shape, causal, quantiser.vocabulary, heads
        self.cross = cross
        codes = quantiser.codes(torch.arange(quantiser.vocabulary)) if quantiser.fixed else None
        self.register_buffer("codes", None if codes is None else F.pad(codes, (0, 0, 0, 1)), persistent=False)
        self.codes: Tensor | None
        self.table = nn.Embedding(quantiser.vocabulary + 1, width)
        self.code = None if codes is None else nn.Linear(quantiser.width, width, bias=False)
        self.places = nn.ParameterList(torch.randn(count, width) for count in shape)
        self.word, self.said = nn.Linear(text, width, bias=False), nn.Linear(text, width, bias=False)
        nn.init.normal_(self.word.weight, std=WORD_STD)
        nn.init.zeros_(self.said.weight)
        self.silence, self.nothing = (nn.Parameter(WORD_STD * torch.randn(width)) for _ in range(2))
        self.register_buffer("apart", distances_between(shape, causal), persistent=False)
        self.apart: Tensor
        kinds = int(self.apart.max()) + 1 if distances else 0
        self.layers = nn.ModuleList(Layer(width, heads, kinds, cross) for _ in range(layers))
        self.head = nn.Linear(width, outputs or quantiser.vocabulary)

    @property
    def count(self) -> int:
        """Tokens of a clip."""
        return prod(self.shape)

    @property
    def hidden(self) -> list[nn.Parameter]:
        """Matrices between tokens, which Muon is for."""
        return [weight for name, weight in self.layers.named_parameters() if not name.endswith("distance_bias")]

    def forward(self, tokens: Tensor, text: Text, memory: Memory | None = None) -> Tensor:
        """Logits `(b, n, v)`, of arguments as `trunk` has them."""
        logits: Tensor = self.head(self.trunk(tokens, text, memory))
        return logits

    def trunk(self, tokens: Tensor, text: Text, memory: Memory | None = None) -> Tensor:
        """What the head reads, `(b, n, w)`.

        Args:
            tokens: `(b, n)`; with a memory those that follow on what it has seen.
            text: of each clip; the same with every call that has the same memory.
            memory: remembers what it saw, of a causal one.
        """
        before, n = (memory.tokens if memory else 0), tokens.shape[1]
        h = self._embedded(tokens, before) + self.said(_mean_like(text))[:, None]
        words, there = self._words(text)
        prefix = words[:, :0] if self.cross else words
        if not before:
            h = torch.cat([prefix, h], 1)
        if memory is not None and not memory.layers:
            memory.layers = [self._room(len(h), prefix.shape[1]) for _ in self.layers]
        sees, hears = self._sees(there[:, : prefix.shape[1]], before, n), _bias(there)[:, None, None]
        apart = self.apart[before : before + n, : before + n]
        for i, layer in enumerate(self.layers):
            h = layer(h, sees, apart, memory.layers[i] if memory else None, words, hears)
        if memory is not None:
            memory.tokens += n
        return F.rms_norm(h[:, -n:], h.shape[-1:])

    def _embedded(self, tokens: Tensor, first: int) -> Tensor:
        slots, rows, columns = self.places
        place = (slots[:, None, None] + rows[:, None] + columns).flatten(0, 2)
        found: Tensor = self.table(tokens) + place[first : first + tokens.shape[1]]
        if self.code is not None and self.codes is not None:
            found = found + self.code(self.codes[tokens])
        return found

    def _words(self, text: Text) -> tuple[Tensor, Tensor]:
        """Silence and the words, `(b, p, w)`, and which of them there are, `(b, p)`."""
        none = ~text.mask.any(1, keepdim=True)
        silence = (self.silence + none * self.nothing)[:, None]
        there = torch.cat([torch.ones_like(none), text.mask], 1)
        return torch.cat([silence, self.word(text.embeddings)], 1), there

    def _sees(self, there: Tensor, before: int, n: int) -> Tensor:
        """0 where a row of a call may look and minus infinity elsewhere, `(b, 1, p + n, p + n)`; with `before` tokens
        in memory `(b, 1, n, p + before + n)`."""
        (b, p), order = there.shape, torch.arange(before + n, device=there.device)
        earlier = order[before:, None] >= order if self.causal else order.new_ones(n, before + n, dtype=torch.bool)
        rows = torch.cat([there[:, None].expand(b, n, p), earlier.expand(b, -1, -1)], 2)
        if not before:
            of_prefix = torch.cat([there[:, None].expand(b, p, p), there.new_zeros(b, p, n)], 2)
            rows = torch.cat([of_prefix, rows], 1)
        return _bias(rows)[:, None]

    def _room(self, clips: int, prefix: int) -> Seen:
        like, width = self.head.weight, self.head.weight.shape[1]
        keys, values = (
            like.new_empty(clips, self.heads, prefix + self.count, width // self.heads) for _ in range(2)
        )  # fmt: skip
        return Seen(keys, values)


def distances_between(shape: tuple[int, int, int], causal: bool) -> Tensor:
    """How many slots, rows and columns lie between the place that a row tells and what a key holds, as one number of
    all that are possible: int64 `(n, n)`. In a causal one a key holds the token before; the first holds none.
    """
    places = torch.cartesian_prod(*map(torch.arange, shape))
    held = torch.cat([places[:1], places[:-1]]) if causal else places
    sizes = 2 * torch.tensor(shape) - 1
    away = (places[:, None] - held + torch.tensor(shape) - 1) * torch.tensor([sizes[1] * sizes[2], sizes[2], 1])
    numbers = away.sum(-1)
    if causal:
        numbers[:, 0] = sizes.prod()
    return numbers


def _bias(there: Tensor) -> Tensor:
    """0 where there is something to look at and minus infinity elsewhere."""
    return torch.zeros_like(there, dtype=torch.float32).masked_fill(~there, -torch.inf)


def _mean_like(text: Text) -> Tensor:
    """The sum of the words over the root of their number, `(b, d)`."""
    return text.embeddings.sum(1) / text.mask.sum(1, keepdim=True).clamp_min(1).sqrt()
