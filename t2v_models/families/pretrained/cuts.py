"""Texts that a tokenizer of a pipeline cuts, told as it is asked: where is written in the code of each class only."""

from collections.abc import Callable
from typing import Any

Cut = Callable[[str, int, int], None]
"""Is told of a text, how many tokens are left of it, and how many it has."""


def tell_cuts(tokenizer: Any, tell: Cut) -> None:
    """From now on whatever this tokenizer cuts is told; what it gives stays as it was."""
    kind = type(tokenizer)

    def called(self: Any, text: Any = None, *rest: Any, **asked: Any) -> Any:
        if asked.get("truncation") and text is not None:
            most = asked.get("max_length") or self.model_max_length
            own = {"add_special_tokens": asked.get("add_special_tokens", True)}
            for one in [text] if isinstance(text, str) else text:
                if (count := len(kind.__call__(self, one, **own)["input_ids"])) > most:
                    tell(one, most, count)
        return kind.__call__(self, text, *rest, **asked)

    tokenizer.__class__ = type(kind.__name__, (kind,), {"__call__": called, "__module__": kind.__module__})
