"""A decoded video frame as the RGB that a player shows on an ordinary screen.

HDR (PQ and HLG, ITU-R BT.2100) is mapped so that diffuse white, 203 cd/m² (ITU-R BT.2408), is white; what is brighter
is white too. Frames that do not say how their colours are coded are read as players read them: BT.709 from HD on.
"""

from functools import cache
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from t2v_models.shards.picture import Told, on_white

DIFFUSE_WHITE = 203.0
"""cd/m²."""
UNSPECIFIED, RGB = 2, 0
"""Of the matrices of ITU-T H.273, table 4."""
HD_WIDTH, HD_HEIGHT = 1280, 577
"""From here on, untagged frames are BT.709; below, BT.601."""
STRIP = 64
"""Rows that are mapped at once, so that a large frame needs little memory."""

TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
"""Linear light of BT.2020 to BT.709: ITU-R BT.2407, section 2."""
P3_TO_709 = np.array([[1.2249, -0.2249, 0], [-0.0420, 1.0420, 0], [-0.0196, -0.0786, 1.0983]], np.float32)
"""The same of Display P3, from the primaries in SMPTE EG 432-1; white stays white."""
WIDE = {ColorPrimaries.BT2020: TO_709, ColorPrimaries.SMPTE431: P3_TO_709, ColorPrimaries.SMPTE432: P3_TO_709}
HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
READ = (0, 1, 2, 4, 5, 6, 7, 9)
"""Matrices of H.273 that swscale knows; ICtCp, YCgCo and the constant luminance of BT.2020 are others."""
UNLIKE = {ColorTrc.LINEAR: "linear light", ColorTrc.LOG: "logarithms", ColorTrc.LOG_SQRT: "logarithms",
          ColorTrc.SMPTE428: "light for cinemas"}  # fmt: skip
"""Curves that look wrong on an ordinary screen."""
LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
_CONVERTER = VideoReformatter()
"""One for all frames: those that frames make for themselves leave memory in pieces, 50 MB in an hour's film."""


def rgb(frame: av.VideoFrame) -> Image.Image:
    """The frame as 8-bit RGB; what is transparent lies on white."""
    if frame.color_trc in HDR or frame.color_primaries in WIDE:
        return _mapped(frame)
    if frame.format.has_palette or any(part.is_alpha for part in frame.format.components):
        return on_white(Image.fromarray(_array(frame, "rgba")))
    return Image.fromarray(_array(frame, "rgb24"))


def tell_colours(frame: av.VideoFrame, told: Told) -> None:
    """Say what is assumed or done to the colours of a film.

    Raises:
        ValueError: they are coded in a way that is not read.
    """
    if frame.colorspace not in READ:
        raise ValueError(
            f"its colours are coded by matrix {int(frame.colorspace)} of H.273, which is not read: convert it"
        )
    if frame.color_trc in UNLIKE:
        raise ValueError(f"its colours are coded as {UNLIKE[ColorTrc(frame.color_trc)]}: convert it to BT.709")
    if _is_untagged(frame) and _assumed(frame) == Colorspace.ITU709:
        told.note("its colours are not tagged: taken for BT.709, as players do with HD")
    if frame.color_trc in HDR:
        told.note("it is HDR: mapped so that diffuse white is white")


def _is_untagged(frame: av.VideoFrame) -> bool:
    return frame.colorspace == UNSPECIFIED and not frame.format.is_rgb and len(frame.format.components) > 2


def _assumed(frame: av.VideoFrame) -> Colorspace:
    return Colorspace.ITU709 if frame.width >= HD_WIDTH or frame.height >= HD_HEIGHT else Colorspace.ITU601


def _array(frame: av.VideoFrame, kind: str) -> NDArray[Any]:
    source = _assumed(frame) if _is_untagged(frame) else None
    return np.ascontiguousarray(_CONVERTER.reformat(frame, format=kind, src_colorspace=source, threads=1).to_ndarray())


def _mapped(frame: av.VideoFrame) -> Image.Image:
    """HDR or a wide gamut to BT.709, shown on a screen of gamma 2.4 (ITU-R BT.1886)."""
    coded, light = _array(frame, "rgb48le"), _light(int(frame.color_trc))
    out = np.empty(coded.shape, np.uint8)
    for top in range(0, len(coded), STRIP):
        linear = light[coded[top : top + STRIP]]
        if frame.color_trc == ColorTrc.ARIB_STD_B67:  # the system gamma of a screen of 1000 cd/m², BT.2100 note 5f
            linear *= (1000 / DIFFUSE_WHITE) * (linear @ LUMINANCE_2020)[..., None] ** 0.2
        if frame.color_primaries == ColorPrimaries.UNSPECIFIED:
            linear = linear @ TO_709.T
        elif frame.color_primaries in WIDE:
            linear = linear @ WIDE[ColorPrimaries(frame.color_primaries)].T
        out[top : top + STRIP] = np.round(linear.clip(0, 1) ** (1 / 2.4) * 255)
    return Image.fromarray(out)


@cache
def _light(transfer: int) -> NDArray[np.float32]:
    """Light of each of 65536 codes, in diffuse whites; for HLG that of the scene, 0–1 (BT.2100, tables 4 and 5)."""
    code = np.linspace(0, 1, 65536)
    if transfer == ColorTrc.SMPTE2084:
        root = code ** (1 / 78.84375)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        return np.asarray(light * (10_000 / DIFFUSE_WHITE), np.float32)
    if transfer == ColorTrc.ARIB_STD_B67:
        bright = (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
        return np.asarray(np.where(code <= 0.5, code**2 / 3, bright), np.float32)
    return np.asarray(code**2.4, np.float32)
