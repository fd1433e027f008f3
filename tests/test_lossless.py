"""Films without loss of pictures, whose decoders notice little: holes of zeros, bytes that are lost or come twice."""

from pathlib import Path

import numpy as np
import pytest

from t2v_models.shards.decode import shown
from t2v_models.shards.picture import Told
from tests.films import bar, write

OLD = {"ffv1": {"level": "1"}}


def film(path: Path, codec: str, pixels: str, noisy: bool) -> Path:
    """A bar that moves over noise, or over a drawn picture of even areas."""
    ground = np.random.default_rng(0).integers(0, 20, (48, 64, 3)) if noisy else 60 * np.eye(48, 64)[:, :, None]
    frames = [np.clip(bar(i / 9, 48) + ground, 0, 255).astype(np.uint8) for i in range(10)]
    return write(path, frames, codec, pixels, **OLD.get(codec, {}))


def seen(path: Path) -> tuple[list[np.ndarray], list[str | None], str | None]:
    """Its pictures, what is wrong with each and with the film."""
    found = list(shown(path, 10, told := Told()))
    return [np.asarray(p.pixels()).astype(int) for p in found], [p.damage for p in found], told.lost


def kept_and_wrong(path: Path, right: list[np.ndarray]) -> int:
    pictures, damage, _ = seen(path)
    good = [picture for picture, why in zip(pictures, damage, strict=True) if why is None]
    return sum(min(np.abs(picture - other).mean() for other in right) > 1 for picture in good)


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize(("codec", "suffix", "pixels"), [
    ("ffv1", "avi", "yuv420p"), ("huffyuv", "avi", "yuv422p"), ("ffvhuff", "avi", "yuv420p"),
    ("magicyuv", "avi", "yuv420p"), ("utvideo", "avi", "yuv420p"), ("qtrle", "mov", "rgb24"),
])  # fmt: skip
def test_holes_of_zeros_are_noticed(tmp_path: Path, codec: str, suffix: str, pixels: str, noisy: bool) -> None:
    path = film(tmp_path / f"a.{suffix}", codec, pixels, noisy)
    right, damage, lost = seen(path)
    assert damage == [None] * 10
    assert lost is None
    whole = path.read_bytes()
    first = max(whole.find(b"movi"), whole.find(b"mdat"))
    for part in (3, 4, 5):
        at = first + (len(whole) - first) * part // 8
        path.write_bytes(whole[:at] + bytes(80) + whole[at + 80 :])
        assert kept_and_wrong(path, right) == 0
        assert any(seen(path)[1])


def test_after_a_loss_no_picture_of_avi_is_a_key_frame_by_its_index(tmp_path: Path) -> None:
    path = film(tmp_path / "a.avi", "msvideo1", "rgb555le", noisy=True)
    (right, *_), whole = seen(path), path.read_bytes()
    at = whole.index(b"00dc", whole.index(b"movi") + 1500) + 100
    path.write_bytes(whole[:at] + whole[at + 50 :])
    assert kept_and_wrong(path, right) == 0
    damage = seen(path)[1]
    assert damage[:2] == [None] * 2
    assert None not in damage[6:]


@pytest.mark.parametrize(("codec", "pixels"), [
    ("rawvideo", "rgb24"), ("v210", "yuv422p10le"), ("qtrle", "rgb24"), ("magicyuv", "yuv420p"),
    ("cfhd", "yuv422p10le"),
])  # fmt: skip
def test_where_bytes_are_lost_or_come_twice_in_a_film_of_a_coder_that_takes_any_it_is_refused(
    tmp_path: Path, codec: str, pixels: str
) -> None:
    """QuickTime Animation kept up to 7 ruined pictures in 8 films, CineForm as many."""
    path = film(tmp_path / "a.mov", codec, pixels, noisy=True)
    assert seen(path)[2] is None
    whole = path.read_bytes()
    at = len(whole) // 2
    for changed in (whole[:at] + whole[at + 1 :], whole[:at] + whole[at - 200 :]):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="bytes are lost or added in it"):
            seen(path)
