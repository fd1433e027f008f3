"""One clip of the user's own as a dataset of its own, pixel by pixel."""

from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.files import write
from t2v_models.shards.decode import resampled, shown
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import MANIFEST, Manifest
from t2v_models.shards.picture import Told
from t2v_models.shards.store import ClipStore

MOST_FRAMES = 256


def read_clip(path: Path, like: ClipSpec) -> NDArray[np.uint8]:
    """All frames of a film, an animation, an .npz or a folder of frames, uint8 `(t, h, w, 3)`, at the rate of `like`.

    Raises:
        LabError: there is none, it cannot be read, it is damaged, of another size than `like`, too short or too long.
    """
    if not path.exists():
        raise LabError(
            f"there is no clip {path}: name an .mp4, .gif, .webp, an .npz with frames, or a folder of frames"
        )
    told = Told()
    try:
        pictures = list(islice(resampled(shown(path, like.fps, told), like.fps), MOST_FRAMES + 1))
        frames = [np.asarray(picture.pixels(), np.uint8) for picture in pictures]
    except Exception as error:  # decoders of foreign bytes raise anything; whatever it is, it is about the file
        raise LabError(f"{path} cannot be read as a clip ({str(error).splitlines()[0]}): write it again") from error
    if damage := next((picture.damage for picture in pictures if picture.damage), told.lost):
        raise LabError(f"{path} is damaged ({damage}): write it again")
    if not 2 <= len(frames) <= MOST_FRAMES:
        count = f"more than {MOST_FRAMES}" if len(frames) > MOST_FRAMES else len(frames)
        raise LabError(
            f"{path} has {count} frames at {like.fps} frames per second: a motion is learnt from 2 to {MOST_FRAMES}"
        )
    for frame in frames:
        if frame.shape[:2] != (like.height, like.width):
            found = f"{frame.shape[1]} x {frame.shape[0]}"
            raise LabError(f"{path} is {found} px, the model makes {like.width} x {like.height}: scale it to that")
    return np.stack(frames)


def dataset_of(frames: NDArray[np.uint8], caption: str, fps: int, out: Path) -> Path:
    """A dataset in `out` of one clip, or the one that is there already, also if another version of ours made it.

    Raises:
        LabError: `out` holds something else, or cannot be written.
    """
    count, height, width = frames.shape[:3]
    spec = ClipSpec(frames=count, height=height, width=width, fps=fps)
    if (out / MANIFEST).is_file():
        store = ClipStore(Manifest.load(out))
        if store.spec != spec or store.captions != (caption,) or not np.array_equal(store.frames([0])[0], frames):
            raise LabError(f"{out} holds another clip or caption: name another folder, or give what was given first")
        return out
    with TemporaryDirectory(prefix="t2v-clip-") as folder:
        write(Path(folder) / "clip.npz", to_npz(frames, fps))
        write(Path(folder) / "clip.txt", caption)
        ingest(Path(folder), out, IngestOptions(spec=spec, validation=0))
    return out
