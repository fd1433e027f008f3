"""Texts left out, texts beside none, and texts between two: what guidance and interpolation do with captions."""

import torch
from torch import Tensor

from t2v_models.text.encoder import Text


def left_out(text: Text, which: Tensor) -> Text:
    """The texts without any token where `which` `(b,)` is true."""
    return Text(text.embeddings * ~which[:, None, None], text.mask & ~which[:, None])


def text_and_none(text: Text) -> Text:
    """The texts, and as many without any token."""
    return Text(*(torch.cat([part, torch.zeros_like(part)]) for part in (text.embeddings, text.mask)))


def mixed(text: Text, share: Tensor) -> Text:
    """Of two texts those on the way between, `(n,)` shares of the second: token by token. A token that one of them has
    alone is there in part, so the mask holds shares as well."""
    (first, last), (there, then) = text.embeddings, text.mask.to(text.embeddings.dtype)
    return Text(torch.lerp(first, last, share[:, None, None]), torch.lerp(there, then, share[:, None]))
