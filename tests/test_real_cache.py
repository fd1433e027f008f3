"""Real clips that are kept between evaluations: the same to the bit as made anew, and never those of another judge."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.judging import real_cache
from t2v_models.judging.baselines import retrieval
from t2v_models.judging.real_cache import cached_real
from t2v_models.judging.truth import Real, Truth
from t2v_models.worlds.dataset import DatasetConfig
from t2v_models.worlds.listed import WORLDS

DATA = DatasetConfig(clips=90, spec=ClipSpec(size=16, frames=6))
PROMPTS = [p for p in DATA.prompts for _ in range(8)]
KEPT = "kept"

Told = list[tuple[float, str]]


def asked(folder: Path, prompts: list[str] = PROMPTS, split: str = "s0") -> tuple[Real, dict, Told]:
    told: Told = []
    real, bounds = cached_real(folder, DATA, split, prompts, lambda share, note: told.append((share, note)))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1][0] == 1
    return real, bounds, told


def bits(real: Real, bounds: dict) -> list[object]:
    arrays = (real.first.features, real.other.features, real.training, real.unseen)
    return [a.tobytes() for a in arrays] + [a.dtype for a in arrays] + [a.shape for a in arrays] + [
        str(real.first.verdicts), str(real.other.verdicts), str(bounds)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object], dict]:
    """The folder with one kept file, what was made, and the scores of a baseline beside it."""
    folder = tmp_path_factory.mktemp("real")
    real, bounds, told = asked(folder)
    assert KEPT not in dict(told).values() and len(told) > 3
    return folder, bits(real, bounds), scores(real)


def scores(real: Real) -> dict:
    seeds = range(len(PROMPTS))
    frames = retrieval(DATA, PROMPTS, seeds)
    truth = Truth(DATA, "s0")
    return truth.figures(truth.judge(frames, PROMPTS, seeds), real)


def test_what_is_kept_is_what_was_made_and_scores_are_equal_to_the_bit(made: tuple[Path, list[object], dict]) -> None:
    folder, fresh, with_fresh = made
    real, bounds, told = asked(folder)
    assert told == [(1, KEPT)]
    assert bits(real, bounds) == fresh
    with_kept = scores(real)
    assert str(with_kept) == str(with_fresh)
    assert {"teleport", "ct_z", "mmd_rbf_a", "mmd_rbf_b", "frechet_excess_a"} <= set(with_kept)


def flipped(place: float) -> Callable[[bytes], bytes]:
    def flip(raw: bytes) -> bytes:
        at = int(place * (len(raw) - 1))
        return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]

    return flip


@pytest.mark.parametrize(
    "spoil", [*map(flipped, (0, 0.001, 0.5, 1)), lambda raw: raw[:-1], lambda raw: raw[:20], lambda raw: b""]
)
def test_a_damaged_file_is_never_used(made: tuple[Path, list[object], dict], spoil: Callable[[bytes], bytes]) -> None:
    folder, *_ = made
    (path,) = folder.iterdir()
    raw, key = path.read_bytes(), f"{path.stem.removeprefix('s0-')} {real_cache.judge_digest(DATA.rules)}".encode()
    assert real_cache.opened(path, key)
    path.write_bytes(spoil(raw))
    assert not real_cache.opened(path, key)
    path.write_bytes(raw)


def test_a_removed_file_a_damaged_one_and_that_of_another_judge_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = list(DATA.prompts[:2])
    fresh = bits(*asked(tmp_path, few)[:2])
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for lose in (path.unlink, lambda: path.write_bytes(flipped(0.7)(whole))):
        lose()
        real, bounds, told = asked(tmp_path, few)
        assert told[-1][1] != KEPT and bits(real, bounds) == fresh
        assert path.read_bytes() == whole
        real, bounds, told = asked(tmp_path, few)
        assert told == [(1, KEPT)] and bits(real, bounds) == fresh
    monkeypatch.setattr(real_cache, "judge_digest", lambda world: "another")
    assert asked(tmp_path, few)[2][-1][1] != KEPT, "a file of another judge was used"
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "it takes the place of the old one"


def test_other_prompts_and_splits_have_files_of_their_own(tmp_path: Path) -> None:
    few = [p for p in DATA.prompts[:2] for _ in range(2)]
    for prompts, split in ((few, "s0"), (few[::-1], "s0"), (few[:3], "s0"), (few, "s1")):
        real, _, told = asked(tmp_path, prompts, split)
        assert told[-1][1] != KEPT
        assert [v.prompt for v in real.first.verdicts] == prompts
        assert bool(real.training.size) == (split == "s0")
    assert len(list(tmp_path.iterdir())) == 4


def test_the_digest_depends_on_the_files_that_decide_and_on_no_other() -> None:
    """On its world, its reader and the formulas; not on what watches trainings or on other worlds."""
    circles, shapes = (
        {path.name for path in real_cache.deciding_files(WORLDS[name])} for name in ("circles", "shapes")
    )
    assert circles ^ shapes == {"circles.py", "shapes.py"}
    assert {"reader.py", "laws.py", "render.py", "motions.py", "figures.py", "distances.py", "truth.py",
            "real_cache.py", "features.safetensors"} <= circles  # fmt: skip
    assert not {"health.py", "scores.py", "feature_training.py", "listed.py", "gate.py", "write.py"} & circles


def test_the_digest_changes_with_any_of_those_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "reader.py", tmp_path / "features.safetensors"
    monkeypatch.setattr(real_cache, "deciding_files", lambda world: {p for p in (one, other) if p.exists()})
    found = set()
    for path, content in ((one, "1"), (other, "1"), (one, "2"), (other, "2")):
        path.write_text(content)
        found.add(real_cache.judge_digest.__wrapped__(DATA.rules))
    one.unlink()
    found.add(real_cache.judge_digest.__wrapped__(DATA.rules))
    assert len(found) == 5
    monkeypatch.setattr(np, "__version__", "0")
    assert real_cache.judge_digest.__wrapped__(DATA.rules) not in found


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("in the way")
    with pytest.raises(LabError, match="cannot write .*real"):
        asked(tmp_path / "real", PROMPTS[:2])
