"""Real clips and the baselines' scores of a split, worked out once and kept on disk for every model judged beside them.

They follow from dataset, split and prompts alone, and cost several times what judging a model costs. A kept file begins
with a digest over its content and over all that decided it, the code that draws, reads and scores included: one that is
damaged, or of another judge, is made again.
"""

import ast
import hashlib
import inspect
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter

from t2v_models import files
from t2v_models.judging.features import WEIGHTS
from t2v_models.judging.scores import digest
from t2v_models.judging.statistics import Score
from t2v_models.judging.suite import bounds, clips_beside, real_clips
from t2v_models.judging.truth import Judged, Real
from t2v_models.judging.verdicts import table, verdicts_of
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.world import World

Bounds = dict[str, dict[str, Score]]

_BOUNDS = TypeAdapter(Bounds)
_DIGEST_BYTES = hashlib.sha256().digest_size


def cached_real(
    folder: Path, data: DatasetConfig, split: str, prompts: Sequence[str], tell: Callable[[float, str], None]
) -> tuple[Real, Bounds]:
    """Real clips of the prompts and the scores of ceiling and floors, equal to the bit whether made now or before.

    Args:
        folder: of kept files, any number of datasets and splits.
        data: the dataset that real clips, baselines and training clips are drawn from.
        split: of the prompts.
        prompts: one for each judged clip.
        tell: told the share done and a note.

    Raises:
        LabError: the folder cannot be written.
    """
    what = digest([data.digest, split, *prompts])
    path, key = folder / f"{split}-{what}.kept", f"{what} {judge_digest(data.rules)}".encode()
    if found := opened(path, key):
        tell(1, "kept")
        return _unpacked(found)
    total, done = clips_beside(prompts), 0

    def read(clips: int) -> None:
        nonlocal done
        done += clips
        tell(done / total, f"{done:,} clips, read once")

    real = real_clips(data, split, prompts, read)
    made = real, bounds(real, data, split, prompts, read)
    content = _packed(*made)
    with files.atomic(path) as file:
        file.write(seal(content, key))
        file.write(content)
    return made


@cache
def judge_digest(world: World) -> str:
    """16 hex digits that change with any line that draws, reads or scores a clip of a world, and with the weights."""
    sources = sorted(deciding_files(world), key=lambda path: path.name)
    return digest([np.__version__, *(hashlib.sha256(source.read_bytes()).hexdigest() for source in sources)])


def deciding_files(world: World) -> set[Path]:
    """What the suite and the world import, one from the other, but for other worlds; and what is in a kept file."""
    package = Path(__file__).parents[1]
    listed = package / "worlds" / "listed.py"
    found = {Path(__file__), WEIGHTS}
    ahead = [package / "judging" / "suite.py", *(Path(inspect.getfile(type(one))) for one in world.made_of)]
    while ahead:
        path = ahead.pop()
        if path in found or path == listed:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                places = [package.parent / f"{name.replace('.', '/')}.py" for name in names]
                ahead += [place for place in places if place.is_file() and package in place.parents]
    return found


def seal(content: bytes, key: bytes) -> bytes:
    """What a kept file begins with."""
    return hashlib.sha256(key + content).digest()


def opened(path: Path, key: bytes) -> bytes:
    """The content of a whole file of this key, or nothing."""
    if not path.is_file():
        return b""
    raw = path.read_bytes()
    content = raw[_DIGEST_BYTES:]
    return content if raw[:_DIGEST_BYTES] == seal(content, key) else b""


def _packed(real: Real, found: Bounds) -> bytes:
    """A NumPy archive; verdicts are a Parquet table in it, scores are JSON."""
    rows = pa.BufferOutputStream()
    pq.write_table(table([*real.first.verdicts, *real.other.verdicts]), rows)
    arrays: dict[str, NDArray[np.generic]] = {
        "verdicts": np.frombuffer(rows.getvalue(), np.uint8),
        "bounds": np.frombuffer(_BOUNDS.dump_json(found), np.uint8),
        "first": real.first.features, "other": real.other.features, "training": real.training, "unseen": real.unseen,
    }  # fmt: skip
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _unpacked(content: bytes) -> tuple[Real, Bounds]:
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        verdicts, n = verdicts_of(pq.read_table(pa.BufferReader(found["verdicts"]))), len(found["first"])
        first, other = Judged(verdicts[:n], found["first"]), Judged(verdicts[n:], found["other"])
        real = Real(first, other, found["training"], found["unseen"])
        return real, _BOUNDS.validate_json(found["bounds"].tobytes())
