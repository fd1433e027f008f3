"""Between full frames and the 8x8 frames the GAN plays over: averaging down, and painting back.

The painter is a function of place, in the spirit of occupancy networks (Mescheder et al. 2019, arXiv:1812.03828) and of
videos as fields (DIGAN, Yu et al. 2022): asked for any point of a frame it answers with the opacity there. It learns by
regression from real frames and their averages, frame by frame, and knows neither motion nor fakes.
"""

import logging
import math
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_models.batch import Batch
from t2v_models.config import RGB
from t2v_models.families.layers import SLOPE, full_precision, perceptron, word_table

SMALL = 8
"""Side in cells of the small frames."""
TEXT = 32
"""Length of the painter's word vectors."""
REACH = 3.0
"""Radii from the centre, along x and along y, beyond which all points are alike."""
PAINTED = 2.0
"""Radii from the centre, along x and along y, beyond which clips are blank."""
WAVES = 3
"""Cosines of the distance from the centre (Fourier features, Tancik et al. 2020): without them rings are filled."""
BACKGROUND_TOLERANCE = 16
"""Levels of 255 that a background may differ from what it was said to be, as in compressed films."""

log = logging.getLogger(__name__)


def shrink(frames: Tensor, background: Tensor) -> Tensor:
    """Opacity averaged over 8x8 cells, `(b, t, 3, 8, 8)`, of uint8 frames `(b, t, s, s, 3)`, s a multiple of 8, over a
    background of colour `(3,)` in [0, 1].

    Cells are summed as whole numbers, so nothing is lost and no frame need be made float. A few clips at a time stay in
    the processor's cache: eight times as fast as all at once.
    """
    _, t, size, _, _ = frames.shape
    cell = size // SMALL
    parts = [part.reshape(-1, t, SMALL, cell, 3 * size).sum(3, dtype=torch.int16) for part in torch.split(frames, 8)]
    rows = torch.cat(parts).view(-1, t, SMALL, SMALL, cell, 3)  # at most 64 * 255
    return background[:, None, None] - rows.permute(0, 1, 5, 2, 3, 4).sum(5, dtype=torch.int32) / (255.0 * cell**2)


def warn_of_other_background(frames: Tensor, background: RGB) -> None:
    """Say so where most clips `(b, t, s, s, 3)` have another background: objects would not be told from it."""
    edges = torch.cat([frames[:, :, 0], frames[:, :, -1]])
    seen = edges.flatten(0, 2).median(0).values.tolist()
    if max(abs(a - b) for a, b in zip(seen, background, strict=True)) > BACKGROUND_TOLERANCE:
        log.warning(
            "behind the objects most clips are %s and not %s: train with --set background=#%02x%02x%02x; little comes "
            "of clips whose background is not even", seen, list(background), *seen,
        )  # fmt: skip


def pixel_centres(size: int) -> Tensor:
    """Centres of the pixels of a frame in cells from its middle, x then y, row by row: `(size², 2)`."""
    place = (torch.arange(size) + 0.5) * SMALL / size - SMALL / 2
    return torch.stack(torch.meshgrid(place, place, indexing="xy"), -1).reshape(-1, 2)


@full_precision
def moments(small: Tensor) -> Tensor:
    """Where the opacity of a frame is and how much: `(…, 6)` of opacity `(…, 3, 8, 8)`, in cells.

    Centre x and y, variance along both, opacity, and its mass: the sum of its squares, and a little, so that nothing is
    divided by 0. The squared opacity weighs the cells, so that a faint veil far away moves neither the centre nor,
    through the penalty on gradients, the discriminator; and so that red darker than the background and blue lighter do
    not cancel out.
    """
    opacity = small.flatten(-2)
    sums = opacity.square().mean(-2) @ cell_powers(opacity.device, opacity.dtype)  # (…, 5)
    mass = sums[..., 4:] + 0.05
    centre, square = (sums[..., :4] / mass).chunk(2, -1)
    return torch.cat([centre, square - centre.square(), opacity.mean(-2).sum(-1, keepdim=True), mass], -1)


@cache
@torch.inference_mode(False)  # what is kept must serve training too, whoever asked first
def cell_powers(device: torch.device, dtype: torch.dtype) -> Tensor:
    """x, y, x², y² and 1 at the middle of each cell, row by row, from the middle of the frame: `(64, 5)`."""
    x, y = pixel_centres(SMALL).to(device, dtype).unbind(1)
    return torch.stack([x, y, x.square(), y.square(), torch.ones_like(x)], 1)


class Painter(nn.Module):
    """Opacity at points of frames, from their 8x8 averages and their captions' bags of words.

    Where the object is, how large and of what colour follows from moments and caption; what shape it has, measured in
    its own radii, from the caption alone. So every frame teaches the shape of all sizes and places. One object a frame.

    Args:
        width: of its layers at each pixel.
        vocabulary: number of words.
        size: height and width of the frames, px.
        background: what is behind the object: opacity is how much darker than that a pixel is, in each channel.
    """

    def __init__(self, width: int, vocabulary: int, size: int, background: RGB):
        super().__init__()
        self.size = size
        self.register_buffer("background", torch.tensor(background) / 255, persistent=False)
        self.register_buffer("pixels", pixel_centres(size), persistent=False)
        self.background: Tensor
        self.pixels: Tensor
        self.words = word_table(vocabulary, TEXT, 0.01)  # small: words that always come together share what they mean
        self.state = perceptron(TEXT + 6 + 8 + 3, 64, 64, 7)
        *_, weight, _ = self.state.parameters()
        nn.init.normal_(weight, std=0.05)
        self.shape = nn.Linear(TEXT, 4 * width)
        nn.init.normal_(self.shape.weight, std=0.1)
        nn.init.normal_(self.shape.bias, std=0.3)
        self.first = nn.Parameter(torch.randn(3 + WAVES, width))
        self.second = nn.Parameter(torch.randn(width, width) * math.sqrt(2 / (1 + SLOPE**2) / width))
        self.last = nn.Parameter(0.3 * torch.randn(width, 1) * math.sqrt(2 / (1 + SLOPE**2) / width))

    def forward(self, small: Tensor, bags: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """How surely each point is inside the object, as a logit `(n, p, 1)`, and the object's opacity `(n, 1, 3)`.

        Args:
            small: frames `(n, 3, 8, 8)`.
            bags: their captions, `(n, v)`.
            points: `(n, p, 2)`, in cells from the middle.
        """
        text = self.words(bags)
        centre, radius, edge, colour = self.measure(small, text)
        return edge * self.depth((points - centre) / radius, text), colour

    def paint(self, small: Tensor, bag: Tensor) -> Tensor:
        """Opacity `(t, s, s, 3)` of the frames `(t, 3, 8, 8)` of a clip with one caption `(v,)`.

        Pixels farther than `PAINTED` radii from the object's centre are left blank: most are.
        """
        text, axis = self.words(bag[None]), self.pixels[: self.size, 0]
        centre, radius, edge, colour = self.measure(small, text.expand(len(small), -1))
        x, y = ((axis - centre.mT) / radius).unbind(1)  # (t, s)
        near = (y.abs() < PAINTED)[:, :, None] & (x.abs() < PAINTED)[:, None]
        frame, row, column = near.nonzero(as_tuple=True)
        points = torch.stack([x[frame, column], y[frame, row]]).mT
        inside = edge[frame, 0, 0] * self.depth(points[None], text)[0, :, 0]
        opacity = torch.zeros_like(near, dtype=small.dtype)
        opacity[frame, row, column] = torch.sigmoid(inside)
        return opacity[..., None] * colour[:, None]

    def measure(self, small: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the object in each frame: its centre `(n, 1, 2)` and radius `(n, 1, 1)` in cells, by how much the logit
        changes a radius from the edge `(n, 1, 1)`, and its opacity `(n, 1, 3)`."""
        seen = moments(small)
        turns = math.pi * torch.cat([2 * seen[:, :2], 4 * seen[:, :2]], 1)  # place within a cell
        state = self.state(torch.cat([seen, turns.sin(), turns.cos(), small.sum((2, 3)), text], 1))[:, None]
        centre, radius = seen[:, None, :2] + 0.3 * state[..., :2], (0.5 * state[..., 2:3]).exp()
        colour = 0.7 * (2 * self.background - 1) + 0.3 * state[..., 4:]  # on white all is darker, on black lighter
        return centre, radius, 12 * state[..., 3:4].exp() * radius, colour

    def depth(self, away: Tensor, text: Tensor) -> Tensor:
        """How far inside the edge of its shape, in radii, each point is that lies so `away` from the centre, in radii
        `(n, p, 2)`: `(n, p, 1)`, negative outside."""
        away = away.clamp(-REACH, REACH)
        far = (away.square().sum(-1, keepdim=True) + 0.01).sqrt()
        waves = (math.pi * torch.arange(1, WAVES + 1, device=far.device)[:, None] * far.mT).cos()  # (n, WAVES, p)
        place = torch.cat([away.mT, far.mT, waves], 1).mT
        gain1, bias1, gain2, bias2 = self.shape(text)[:, None].chunk(4, -1)
        h = F.leaky_relu_(torch.baddbmm(bias1, place, self.first * (1 + gain1)), SLOPE)
        h = F.leaky_relu_(torch.baddbmm(bias2, h, self.second * (1 + gain2)), SLOPE)
        depth: Tensor = 1 - far + h @ self.last
        return depth


def painter_loss(inside: Tensor, colour: Tensor, target: Tensor, certainty: float) -> Tensor:
    """Absolute error of opacity, and cross-entropy between inside and outside, where the object's full opacity is 1.

    Of a point that is surely inside and should not be, such as the hole of a ring, the first has no gradient left; the
    second pulls the harder the surer the painter is.

    Args:
        inside: logits `(n, p, 1)` of n frames at p points.
        colour: opacity of the object, `(n, 1, 3)`.
        target: opacity of the frames, `(n, p, 3)`.
        certainty: weight of the cross-entropy.
    """
    error = (torch.sigmoid(inside) * colour - target).abs().mean()
    opacity = target.abs().amax(-1, keepdim=True)
    full = opacity.amax(1, keepdim=True).clamp_min(0.2)  # a frame may be empty
    return error + certainty * F.binary_cross_entropy_with_logits(inside, (opacity / full).clamp_max(1))


def sample_pixels(small: Tensor, draw: Tensor, size: int) -> Tensor:
    """Pixels to learn from, most of them around the object: int64 `(n, p)`, numbered row by row.

    Args:
        small: frames `(n, 3, 8, 8)`.
        draw: uniform noise in [0, 1), `(n, p, 2)`; its first quarter is spread over the whole frame.
        size: height and width of the frames, px.
    """
    window = 5.0  # cells: twice the radius of the largest objects
    centre = moments(small)[:, None, :2]
    near = centre + window * (draw - 0.5)
    anywhere = SMALL * (draw - 0.5)
    everywhere = torch.arange(draw.shape[1], device=draw.device)[:, None] < draw.shape[1] // 4
    place = torch.where(everywhere, anywhere, near)
    x, y = ((place / SMALL + 0.5) * size).long().clamp(0, size - 1).unbind(-1)
    return y * size + x


@dataclass(frozen=True)
class PixelSample:
    """Which frames of a batch the painter learns from in an update, and where in them: for the batch of all ranks.

    Every run of one caption has equally many frames, in the order of the batch, so those of a part made of whole runs
    stand together.
    """

    clip: Tensor
    """int64 `(n,)`: the clip in the whole batch that each frame is of."""
    frame: Tensor
    """int64 `(n,)`: its number within the clip."""
    noise: Tensor
    """`(n, 3, 8, 8)`: what is added to its small version."""
    place: Tensor
    """Uniform in [0, 1), `(n, p, 2)`: draws for `sample_pixels`."""

    def loss(self, painter: Painter, part: Batch, small: Tensor, bags: Tensor, certainty: float) -> Tensor:
        """`painter_loss` of those of the frames that are of one part of the batch, painted from their small versions.

        Args:
            painter: who learns.
            part: made of whole runs.
            small: frames of the part, `(b, t, 3, 8, 8)`.
            bags: its captions, `(b, v)`.
            certainty: weight of inside against outside.
        """
        first, end = (len(self.clip) * bound // len(part.all_captions) for bound in part.bounds)
        clip, frame, noise, place = (drawn[first:end] for drawn in (self.clip, self.frame, self.noise, self.place))
        clip = clip - len(part.before)
        seen = small[clip, frame]
        pixels = sample_pixels(seen, place, painter.size)
        target = (
            painter.background - part.frames.flatten(2, 3)[clip[:, None], frame[:, None], pixels] / 255.0
        )  # (n, p, 3)
        inside, colour = painter(seen + noise, bags[clip], painter.pixels[pixels])
        return painter_loss(inside, colour, target, certainty)


def draw_pixel_sample(
    runs: int, group: int, per_run: int, length: int, pixels: int, noise: float, device: torch.device
) -> PixelSample:
    """A sample of `per_run` frames of each of `runs` runs of `group` clips of `length` frames, `pixels` places in each.

    Args:
        noise: greatest noise on a small frame, of full opacity.
    """
    count = runs * per_run
    draw, draw_below = partial(torch.rand, device=device), partial(torch.randint, size=(count,), device=device)
    clip = (group * torch.arange(count, device=device) + draw_below(group)) // per_run  # spread evenly over the run
    added = noise * draw(count, 1, 1, 1) * torch.randn(count, 3, SMALL, SMALL, device=device)
    return PixelSample(clip, draw_below(length), added, draw(count, pixels, 2))
