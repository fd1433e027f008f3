"""How a model of diffusion makes the rest of a clip from frames that are known.

A network that is trained so sees them as further channels of its input. One that is not is led to them by
reconstruction guidance. Either way the known frames themselves come back as they are.

Letters in shapes: b clips, c channels, t frames, h and w pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from t2v_models.batch import Batch
from t2v_models.config import LabError
from t2v_models.families.diffusion.samplers import Denoise
from t2v_models.sampler import Request

TINY = 1e-20
"""A curvature below is rounding."""


def check_seen(request: Request, every: int) -> None:
    """See that the known frames of a settled request are such as the denoiser makes, for it sees none of those between.
    Of first frames it sees the first.

    Raises:
        LabError: one is not; the nearest that are.
    """
    for place in request.places or ():
        if over := place % every:
            near = place - over
            raise LabError(
                f"diffusion: frame {place} is drawn between two others (every={every}) and the rest would not follow "
                f"it: give frame {near} or {near + every}"
            )


def random_mask(part: Batch, frames: int, share: float) -> Tensor:
    """Which frames a clip of a batch is learnt with, `(b, t)` bool: of this share of clips some, of the others none.

    A third of these each know the first, the first few, and any of their frames.
    """
    place = torch.arange(frames, device=part.frames.device)
    few = 1 + part.rand(1) * (frames - 1)
    kinds = torch.stack(
        [(place == 0).expand(len(few), -1), place < few.floor(), part.rand(frames) < part.rand(1)], 1
    )  # (b, 3, t)
    kind = (part.rand() * 3).long()
    return kinds[torch.arange(len(few)), kind] & (part.rand(1) < share)


def projected(denoise: Denoise, put: Callable[[Tensor], Tensor]) -> Denoise:
    """The denoiser whose clean clips have `put` done to them: what is known is put in place."""
    return lambda x, sigma: put(denoise(x, sigma))


def reconstruction_guidance(
    denoise: Denoise, look: Callable[[Tensor], Tensor], known: Tensor, steps: int, blur: float = 0.0
) -> Denoise:
    """The mean of x0 given x and what is known of x0, by a denoiser that knows of x alone.

    Ho et al. (2022, arXiv:2204.03458, eq. 7) move the clean clip D(x) by w A'(known - A D(x)), where A' is the gradient
    of A D with regard to x: `known` is taken to be Gaussian about A D(x) with variance sigma² / w. In truth its
    covariance is sigma² A A' (Tweedie's formula), so that the move is A' s, where (A A' + blur² / sigma²) s =
    known - A D(x) (Rozet et al. 2024, arXiv:2405.13712, section 4). One step of conjugate gradients towards s is the
    paper's equation with the best w for each clip. As many as `known` has numbers make it exact where all is Gaussian;
    of a network, whose gradients are not quite those of a mean, more than one lead astray.

    Args:
        denoise: D, differentiable.
        look: A, linear: what would be known of clips `(b, …)`.
        known: like `look(x)`.
        steps: of conjugate gradients, each of which costs a backward pass.
        blur: deviation up to which `known` may be missed: a network cannot be led to what it never makes.
    """

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            clean = denoise(x, sigma)
            seen = look(clean)

        def pulled(weights: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(seen, x, weights, retain_graph=True)
            return gradient

        missed = (blur / sigma.view(-1, *[1] * (x.ndim - 1))) ** 2
        weights = conjugate_gradients(lambda s: look(pulled(s)) + missed * s, known - seen.detach(), steps)
        return clean.detach() + pulled(weights)

    return guided


def conjugate_gradients(matrix: Callable[[Tensor], Tensor], wanted: Tensor, steps: int) -> Tensor:
    """s with matrix(s) = wanted, each row `(b, …)` by itself, by so many steps of conjugate gradients from 0."""
    found = torch.zeros_like(wanted)
    rest, direction, size = wanted, wanted, _dot(wanted, wanted)
    for _ in range(steps):
        image = matrix(direction)
        curvature = _dot(direction, image)
        length = torch.where(curvature > TINY, size / curvature.clamp_min(TINY), 0)
        found = found + length * direction
        rest = rest - length * image
        before, size = size, _dot(rest, rest)
        direction = rest + size / before.clamp_min(TINY) * direction
    return found


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Of each row, `(b, 1, …)`."""
    return (one * other).sum(tuple(range(1, one.ndim)), keepdim=True)
