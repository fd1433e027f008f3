"""Line charts as inline SVG, drawn with the colours of the page they stand in."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 12, 42
MOST_POINTS = 300
"""Points drawn for a line; longer ones keep evenly spaced points and the last."""


@dataclass(frozen=True)
class Chart:
    """Lines over one axis: `lines[name]` is a sequence of (x, y). `percent` draws y from 0 to 100 %."""

    title: str
    x_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    percent: bool = False


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from at most `low` to at least `high`, about `count` of them."""
    span = (high - low) or abs(high) or 1.0
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def draw(chart: Chart) -> str:
    """The chart as a `<figure>` with title, legend and labelled axes; points that are not finite are left out."""
    lines = {name: _thinned([p for p in points if all(map(math.isfinite, p))]) for name, points in chart.lines.items()}
    colour = {name: f"c{i % 6}" for i, name in enumerate(lines)}  # also of a line without points: as on its card
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return ""
    xs, ys = ([p[axis] for points in lines.values() for p in points] for axis in (0, 1))
    x_ticks = ticks(min(0.0, *xs), max(xs))
    y_ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if chart.percent else ticks(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = []
    for y in y_ticks:
        _, v = place(x_ticks[0], y)
        label = f"{100 * y:.0f} %" if chart.percent else f"{y:g}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{v:.1f}" y2="{v:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{v + 4:.1f}" text-anchor="end">{label}</text>')
    for x in x_ticks:
        h, _ = place(x, y_ticks[0])
        parts.append(f'<text x="{h:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:,.6g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(chart.x_label)}</text>')
    for name, points in lines.items():
        path = " ".join(f"{h:.1f},{v:.1f}" for h, v in (place(*p) for p in points))
        parts.append(f'<polyline class="line {colour[name]}" points="{path}"/>')
        h, v = place(*points[-1])
        parts.append(f'<circle class="end {colour[name]}" cx="{h:.1f}" cy="{v:.1f}" r="3"/>')
    legend = "".join(f'<span class="{colour[name]}">{escape(name)}</span>' for name in lines)
    title = escape(chart.title)
    return (
        f'<figure class="chart"><figcaption>{title}<span class="legend">{legend}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg></figure>'
    )


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    every = -(-len(points) // MOST_POINTS) if points else 1
    return points[::every] + (points[-1:] if (len(points) - 1) % every else [])
