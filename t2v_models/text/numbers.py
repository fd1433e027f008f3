"""The encoder `numbers`: captions that are nothing but numbers, "0.1 -0.3 2", such as a pose, a speed or a measurement.

All of a caption's numbers are one token. Each is told as how many deviations it is above its mean over the captions of
the dataset, for networks begin with a linear layer that learns best of numbers about 1, and nobody should have to know
that. A 1 stands before them: without it, a caption of means alone would be no caption to a network.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from operator import not_
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from t2v_models.config import LabError
from t2v_models.text.encoder import TextConfig, TextEncoder
from t2v_models.text.split import numbers

log = logging.getLogger(__name__)
FAR = 1000.0
"""Deviations from its mean beyond which a number is refused: it is of another unit, or a slip."""
WIDER = 0.5
"""A number is told to be far outside the captions if it lies beyond their range by more than so many times its width:
a model may go on a little way beyond what it has seen, and nobody should have to find out that it did not go on."""


class NumbersConfig(TextConfig):
    """As many numbers as the dataset's captions have."""

    about = "captions that are numbers, as many in each, such as '0.1 -0.3 2': a vector that is one token"
    taken: ClassVar[frozenset[str]] = frozenset({"means", "deviations", "least", "most"})
    hears_order = True

    name: Literal["numbers"] = "numbers"
    means: tuple[float, ...] = Field((), description="of each number over all different captions of the dataset")
    deviations: tuple[float, ...] = Field((), description="the same, standard deviations; 1 where it never changes")
    least: tuple[float, ...] = Field(
        (), exclude_if=not_, description="the least of each number; earlier runs: not known"
    )
    most: tuple[float, ...] = Field((), exclude_if=not_, description="the greatest of each, likewise")

    def fitted(self, captions: Sequence[str]) -> Self:
        """With means, deviations and range of the captions' numbers, unless it has some.

        Raises:
            LabError: a caption that is no numbers, or has more or fewer than another; numbers too large to be compared.
        """
        lines = list(dict.fromkeys(line for caption in captions for line in caption.split("\n")))
        if self.means or not lines:
            return self
        rows = [numbers(line) for line in lines]
        for line, row in zip(lines, rows, strict=True):
            if not row or len(row) != len(rows[0]):
                found = (
                    f"has {len(row)} and {lines[0]!r} has {len(rows[0])}" if row and rows[0] else "is something else"
                )
                raise LabError(
                    f"the text encoder numbers reads captions of as many numbers with blanks between, and {line!r} "
                    f"{found}: change the captions, or choose another text encoder"
                )
        found_numbers = torch.tensor(rows, dtype=torch.float64)
        deviations = found_numbers.std(0, correction=0)
        if not deviations.isfinite().all():
            raise LabError(
                f"the text encoder numbers cannot compare numbers up to {found_numbers.abs().max():g}: give them in a "
                "larger unit"
            )
        return self.model_copy(
            update={
                "means": tuple(found_numbers.mean(0).tolist()),
                "deviations": tuple(torch.where(deviations > 0, deviations, 1).tolist()),
                "least": tuple(found_numbers.amin(0).tolist()),
                "most": tuple(found_numbers.amax(0).tolist()),
            }
        )

    def after(self, earlier: TextConfig) -> Self:
        """With the means and deviations of the earlier one, by which weights read numbers, and the range of both."""
        if not isinstance(earlier, NumbersConfig) or len(earlier.means) != len(self.means):
            return super().after(earlier)
        scales = {name: getattr(earlier, name) for name in self.taken}
        same = TextConfig.after(self.model_copy(update=scales), earlier)
        if not (self.least and same.least):  # of a run that did not keep its own
            return same
        least, most = map(min, same.least, self.least), map(max, same.most, self.most)
        return same.model_copy(update={"least": tuple(least), "most": tuple(most)})

    def build(self) -> "Numbers":
        """The encoder, of as many numbers as it was fitted to."""
        return Numbers(self)


class Numbers(TextEncoder):
    """One token of `1 + d` numbers, d of them the caption's, each less its mean and over its deviation."""

    def __init__(self, config: NumbersConfig):
        super().__init__(1 + len(config.means), config.positions)
        self._means, self._deviations = config.means, config.deviations
        self._ranges = [*zip(config.least, config.most, strict=True)]
        self._tell_once = lru_cache(4096)(self._tell)

    def check(self, prompt: str) -> None:
        """As every encoder; numbers far outside those of the captions are told, once for each prompt.

        Raises:
            LabError: as `tokens`.
        """
        super().check(prompt)
        self._tell_once(prompt)

    def _tell(self, prompt: str) -> None:
        if far := [
            f"{number:g}, where captions went from {least:g} to {most:g}"
            for number, (least, most) in zip(numbers(prompt), self._ranges, strict=False)
            if not least - WIDER * (most - least) <= number <= most + WIDER * (most - least)
        ]:
            log.warning(
                "prompt %r is far outside what the model was trained on (%s): clips of it may show anything",
                prompt, "; ".join(far),
            )  # fmt: skip

    def tokens(self, prompt: str) -> Tensor:
        """`(1, 1 + d)`.

        Raises:
            LabError: it is no numbers, or not d of them, or one is far from all that was trained on.
        """
        found = numbers(prompt)
        example = " ".join(f"{mean:.3g}" for mean in self._means)
        if len(found) != len(self._means):
            raise LabError(
                f"prompt {prompt!r} is not {len(self._means)} numbers with blanks between, which is what the model was "
                f"trained on: ask for such as {example!r}"
            )
        each = zip(found, self._means, self._deviations, strict=True)
        told = [(number - mean) / deviation for number, mean, deviation in each]
        if not max(map(abs, told)) <= FAR:
            raise LabError(
                f"prompt {prompt!r} is more than {FAR:g} deviations away from what the model was trained on, such as "
                f"{example!r}: use the unit of those captions"
            )
        return torch.tensor([[1.0, *told]])
