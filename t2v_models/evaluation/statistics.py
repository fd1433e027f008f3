"""Intervals."""

import math

from pydantic import Field

from t2v_models.config import Config

Z95 = 1.959963984540054


class Score(Config):
    """A figure with its 95 % interval and the number of clips it rests on."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0)

    def __str__(self) -> str:
        """For proportions: `97.8 % [96.1, 98.8]`."""
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson(hits: int, n: int) -> Score:
    """A proportion with its Wilson score interval (Wilson 1927); with n = 0 nothing is known: [0, 1]."""
    if n == 0:
        return Score(value=math.nan, low=0, high=1, n=0)
    p, z2 = hits / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Score(value=p, low=min(p, max(0.0, centre - half)), high=max(p, min(1.0, centre + half)), n=n)
