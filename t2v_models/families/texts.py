"""Texts left out, texts beside others, and texts between two: what guidance and interpolation do with captions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from t2v_models.config import LabError
from t2v_models.text.encoder import Text, TextEncoder


def check_guidance(name: str, encoder: TextEncoder, guidance: float, dropout: float, avoid: str | None) -> None:
    """See that a model can be guided so far, by captions that were left out in training.

    Raises:
        LabError: it knows no clip without text; what is to be avoided is refused, or has no effect.
    """
    if avoid is not None:
        encoder.check(avoid)
        if guidance == 1:
            raise LabError("what to avoid works through guidance, and guidance 1 is none: ask for more, such as 3")
    if guidance != 1 and dropout == 1:
        raise LabError(f"{name} was trained without captions (dropout 1), which cannot guide it: use guidance 1")
    if guidance != 1 and not dropout:
        raise LabError(
            f"{name} was trained without leaving captions out (dropout 0), so it knows no clip without text "
            f"and guidance {guidance:g} has no meaning: use guidance 1"
        )


def check_dropout(dropout: float, guidance: float) -> None:
    """See that a model that learns no captions is not to be guided by them.

    Raises:
        ValueError: it is.
    """
    if dropout == 1 and guidance != 1:
        raise ValueError("dropout 1 learns clips without captions, and nothing guides those: use guidance 1 with it")


def left_out(text: Text, which: Tensor) -> Text:
    """The texts without any token where `which` `(b,)` is true."""
    return Text(text.embeddings * ~which[:, None, None], text.mask & ~which[:, None])


def heard(text: Text, dropout: float) -> Text:
    """What a model makes clips of: no text, where all captions were left out in training."""
    return none_like(text) if dropout == 1 else text


def none_like(text: Text) -> Text:
    """As many texts without any token."""
    return Text(torch.zeros_like(text.embeddings), torch.zeros_like(text.mask))


def beside(one: Text, other: Text) -> Text:
    """All of one, then all of the other."""
    most = max(one.mask.shape[1], other.mask.shape[1])
    parts = [(text, most - text.mask.shape[1]) for text in (one, other)]
    return Text(
        torch.cat([F.pad(text.embeddings, (0, 0, 0, more)) for text, more in parts]),
        torch.cat([F.pad(text.mask, (0, more)) for text, more in parts]),
    )


def mixed(text: Text, share: Tensor) -> Text:
    """Of two texts those on the way between, `(n,)` shares of the second: token by token. A token that one of them has
    alone is there in part, so the mask holds shares as well."""
    (first, last), (there, then) = text.embeddings, text.mask.to(text.embeddings.dtype)
    return Text(torch.lerp(first, last, share[:, None, None]), torch.lerp(there, then, share[:, None]))
