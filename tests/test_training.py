"""The loop: a resumed run equals an unbroken one, a bad run stops in words, a killed one goes on."""

import itertools
import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from t2v_models import checkpoint as checkpoints
from t2v_models.config import LabError
from t2v_models.families.build import FAMILIES
from t2v_models.model import VideoModel
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training import clock, loop, run_log
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tests.runs import SMALL, quiet, run_of, tensors, train


@pytest.mark.parametrize("name", FAMILIES)
def test_two_steps_resume_and_two_steps_equal_four_bit_for_bit(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(data, tmp_path / "whole", 4, name)
    # The schedule looks at the whole run, so the first part is a run of four steps that is stopped after two.
    real = loop.Clock.due
    monkeypatch.setattr(loop.Clock, "due", lambda clock, what, every: what == "save" or real(clock, what, every))
    calls = []

    def stop_after_two(step: int, figures: dict[str, float]) -> None:
        calls.append(step)
        if step == 3:
            raise RuntimeError("killed")

    run, store = run_of(data, SMALL[name]), ClipStore(Manifest.load(data))
    with pytest.raises(RuntimeError, match="killed"):
        fit(run, store, TrainConfig(steps=4, log_every=1, probe_seconds=0), tmp_path / "parts", stop_after_two)
    assert checkpoints.newest(tmp_path / "parts").step == 2  # type: ignore[union-attr]
    parts = fit(run, store, TrainConfig(steps=4, log_every=1, probe_seconds=0), tmp_path / "parts", quiet)
    assert (calls, whole.step, parts.step) == ([1, 2, 3], 4, 4)
    one, other = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_a_finished_run_is_left_alone_and_a_longer_one_goes_on(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path, 2)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints").iterdir()}
    assert train(data, tmp_path, 2).step == 2
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints").iterdir()}
    assert train(data, tmp_path, 3).step == 3


def test_figures_are_logged_under_their_names(data: Path, tmp_path: Path) -> None:
    seen: dict[int, dict[str, float]] = {}
    config = TrainConfig(steps=4, log_every=2, watch_seconds=1e-9, probe_seconds=0.01)

    def log(step: int, figures: dict[str, float]) -> None:
        seen.setdefault(step, {}).update(figures)

    store = ClipStore(Manifest.load(data))
    fit(run_of(data, SMALL["gan"]), store, config, tmp_path, log, lambda step, model: {"watch/seen": step})
    assert run_log.history(tmp_path) == seen
    assert set(seen) == {2, 3, 4}
    assert {
        "train/loss/generator",
        "train/lr/generator",
        "speed/clips_per_second",
        "speed/data_wait_share",
        "speed/gflops",
        "speed/matrix_gflops",
        "speed/matrix_share",
        "speed/watch_share",
        "watch/seen",
    } <= set(seen[2])
    assert 0 <= seen[4]["speed/data_wait_share"] <= 1


@pytest.mark.parametrize("name", ["gan", "diffusion"])
def test_logged_metrics_are_means_over_the_updates_since_the_last_log(data: Path, tmp_path: Path, name: str) -> None:
    """Those that only some updates have, as the penalties of `gan`, too."""
    train(data, tmp_path / "each", 6, name)
    fit(run_of(data, SMALL[name]), ClipStore(Manifest.load(data)), TrainConfig(steps=6, log_every=3), tmp_path, quiet)
    each, logged = run_log.history(tmp_path / "each"), run_log.history(tmp_path)
    assert set(logged) == {3, 6}
    for step, figures in logged.items():
        since = [each[number] for number in range(step - 2, step + 1)]
        metrics = [k for k in figures if k.startswith("train/") and not k.startswith(("train/lr/", "train/progress"))]
        assert any(k.startswith("train/loss/") for k in metrics)
        for key in metrics:
            found = [row[key] for row in since if key in row]
            assert figures[key] == pytest.approx(sum(found) / len(found), rel=1e-5), key
    assert ("train/loss/penalty" in logged[3]) == (name == "gan")


def test_another_run_in_the_folder_is_refused_by_name(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path, 1)
    with pytest.raises(LabError, match=r"holds another run \(.*model.name was 'gan', now 'frame_gan'"):
        train(data, tmp_path, 2, "frame_gan")
    with pytest.raises(LabError, match="seed was 0, now 7"):
        fit(
            run_of(data, SMALL["gan"], seed=7),
            ClipStore(Manifest.load(data)),
            TrainConfig(steps=2, probe_seconds=0),
            tmp_path,
            quiet,
        )
    other = run_of(data, SMALL["gan"]).model_copy(update={"dataset_digest": "0" * 16})
    with pytest.raises(LabError, match="dataset_digest was .*, now '0000000000000000'"):
        fit(other, ClipStore(Manifest.load(data)), TrainConfig(steps=2, probe_seconds=0), tmp_path, quiet)
    assert checkpoints.newest(tmp_path).step == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["gan", "diffusion"])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_last_good_checkpoint(
    name: str, data: Path, tmp_path: Path
) -> None:
    run, store = run_of(data, SMALL[name]), ClipStore(Manifest.load(data))
    config = TrainConfig(steps=9, log_every=1, probe_seconds=0).model_copy(
        update={"save_seconds": 0.0, "watch_seconds": 0.0}
    )
    good: dict[str, Tensor] = {}

    def spoil(step: int, model: VideoModel) -> dict[str, float]:
        good.update(tensors(tmp_path))
        with torch.no_grad():
            next(model.parameters()).fill_(math.nan)
        return {}

    with pytest.raises(LabError, match="train/loss/.* is nan at step 2; the last good checkpoint is step 1"):
        fit(run, store, config, tmp_path, quiet, spoil)
    assert checkpoints.newest(tmp_path).step == 1  # type: ignore[union-attr]
    kept = tensors(tmp_path)
    assert good.keys() == kept.keys()
    assert all(value.isfinite().all() and torch.equal(value, kept[name]) for name, value in good.items())


@pytest.mark.parametrize(("name", "network"), [("gan", "generator"), ("diffusion", "denoiser")])
def test_weights_that_are_not_finite_are_never_saved(name: str, network: str, data: Path, tmp_path: Path) -> None:
    """An update can spoil the weights after a loss that was finite; the newest checkpoint must still be a good one."""
    run, store, config = (
        run_of(data, SMALL[name]),
        ClipStore(Manifest.load(data)),
        TrainConfig(steps=2, log_every=1, probe_seconds=0),
    )
    train(data, tmp_path, 1, name)

    def spoil(step: int, model: VideoModel) -> dict[str, float]:
        with torch.no_grad():
            next(model.parameters())[0] = math.inf
        return {}

    with pytest.raises(LabError, match=rf"weights .*{network}.* are not finite at step 2; the last good .* step 1"):
        fit(run, store, config.model_copy(update={"watch_seconds": 0.0}), tmp_path, quiet, spoil)
    assert checkpoints.newest(tmp_path).step == 1  # type: ignore[union-attr]


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(data, tmp_path, 1)
    train(data, tmp_path, 2)
    folder = checkpoints.folder(tmp_path)
    weights = folder / "step-00000002.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert checkpoints.newest(tmp_path).step == 1  # type: ignore[union-attr]
    assert "damaged" in caplog.text
    (folder / "step-00000002.json").write_text('{"half": ')
    assert checkpoints.newest(tmp_path).step == 1  # type: ignore[union-attr]
    assert train(data, tmp_path, 2).step == 2


def test_a_run_of_another_version_is_no_damage_and_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path, 1)
    folder = checkpoints.folder(tmp_path)
    (path,) = folder.glob("*.json")
    record = json.loads(path.read_text())
    record["run"]["model"] |= {"painter_frames": 32}
    path.write_text(json.dumps(record))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for use in (partial(train, data, tmp_path, 2), partial(checkpoints.load, tmp_path)):
        with pytest.raises(LabError, match="another version of t2v-lab .*'painter_frames'.*: use that"):
            use()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_too_many_parts_are_refused_before_anything_is_made(data: Path, tmp_path: Path) -> None:
    model = SMALL["gan"].model_copy(update={"accumulate": 5})
    with pytest.raises(LabError, match="a batch of 8 clips is 4 runs of 2, too few for 5 parts"):
        fit(run_of(data, model), ClipStore(Manifest.load(data)), TrainConfig(steps=1), tmp_path / "run", quiet)
    assert not (tmp_path / "run").exists()


def test_what_was_damaged_goes_when_the_run_has_passed_on_from_before_it(data: Path, tmp_path: Path) -> None:
    """Kept by its number, a damaged checkpoint would push out the good ones that come after it."""
    for steps in (1, 2, 3):
        train(data, tmp_path, steps)
    folder = checkpoints.folder(tmp_path)
    damaged = folder / "step-00000003.safetensors"
    damaged.rename(folder / "step-00000009.safetensors")
    (folder / "step-00000003.json").rename(folder / "step-00000009.json")
    (folder / "step-00000009.safetensors").write_bytes(b"half")
    (folder / "step-00000008.safetensors").write_bytes(b"killed before its JSON was written")
    assert train(data, tmp_path, 4).step == 4
    assert sorted(p.name for p in folder.iterdir()) == [
        f"step-0000000{n}.{suffix}" for n in (2, 4) for suffix in ("json", "safetensors")
    ]


def test_only_the_newest_checkpoints_are_kept_and_they_are_readable(data: Path, tmp_path: Path) -> None:
    for steps in (1, 2, 3, 4):
        train(data, tmp_path, steps)
    assert sorted(p.name for p in checkpoints.folder(tmp_path).iterdir()) == [
        f"step-0000000{n}.{suffix}" for n in (3, 4) for suffix in ("json", "safetensors")
    ]
    content = json.loads((checkpoints.folder(tmp_path) / "step-00000004.json").read_text())
    vocabulary = content["run"]["model"]["text_encoder"]["vocabulary"]
    assert vocabulary and vocabulary == sorted(vocabulary)
    assert content["versions"]["torch"] == torch.__version__


def test_a_run_folder_without_checkpoints_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="does not exist"):
        checkpoints.load(tmp_path / "nowhere")
    with pytest.raises(LabError, match="has no whole checkpoint"):
        checkpoints.load(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems keep memory in ways of their own")
def test_memory_that_a_step_frees_serves_the_next_one() -> None:
    program = """
import resource, torch
from t2v_models.machine import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.zeros(10, 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
keep_memory()
faults()  # the heap grows to what is needed
print(first, faults())
"""
    # 40 MiB are 20 huge pages at least, 50 times over
    fresh, kept = map(int, subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert fresh >= 50 * 20
    assert kept <= fresh / 10


def test_mixed_precision_uses_weights_as_they_are_after_an_update() -> None:
    layer = torch.nn.Linear(4, 4)
    with loop.arithmetic(torch.device("cpu"), "bfloat16"):
        before = layer(torch.ones(1, 4))
        with torch.no_grad():
            layer.weight.add_(1)
        after = layer(torch.ones(1, 4))
    assert before.dtype == torch.bfloat16
    torch.testing.assert_close(after, before + 4, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", ["gan", "phenaki", "modelscope"])
def test_a_cpu_trains_in_bfloat16_where_it_has_it(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the loop; steps of every family in mixed precision are in `test_model_contract`."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "avx512_f": True})
    with pytest.raises(LabError, match="bfloat16 needs a GPU or a processor with AVX-512 BF16 or AMX, .* use float32"):
        train(data, tmp_path / "mixed", 2, name, device="cpu", precision="bfloat16")
    assert not (tmp_path / "mixed").exists(), "refused before anything is written"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    train(data, tmp_path / "mixed", 2, name, device="cpu", precision="bfloat16")
    train(data, tmp_path / "exact", 2, name, device="cpu")
    mixed, exact = tensors(tmp_path / "mixed"), tensors(tmp_path / "exact")
    assert all(value.isfinite().all() and value.dtype == exact[key].dtype for key, value in mixed.items())
    assert any(not torch.equal(value, exact[key]) for key, value in mixed.items()), "it was float32 all the same"


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(loop.collectives, "local_world", lambda: 2)
    with pytest.raises(LabError, match="2 ranks need a GPU each and this machine has 1: use --ranks 1"):
        loop._device(TrainConfig(steps=1))


def test_a_schedule_has_one_length() -> None:
    for both in ({}, {"steps": 1, "minutes": 1.0}):
        with pytest.raises(ValueError, match="either steps or minutes"):
            TrainConfig(**both)  # type: ignore[arg-type]
    assert TrainConfig(minutes=2).progress(999, 60) == 0.5
    assert TrainConfig(steps=4).progress(1, 999) == 0.25


@pytest.mark.parametrize(
    ("step_seconds", "look_seconds", "first", "steps"),
    [(0.1, 0.01, 1, 9000), (0.1, 2.0, 1, 9000), (3.0, 40.0, 1, 3000), (0.1, 2.0, 4, 9000)],
)
def test_looking_at_the_model_takes_three_per_cent_at_most(
    step_seconds: float, look_seconds: float, first: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now)
    timer, looks = clock.Clock(step=0, before=500.0, matrix_gflops=0), []
    for _ in range(steps):
        now += step_seconds
        planned = 500 + 1.03 * steps * step_seconds
        if timer.may_watch(20.0, timer.seconds / planned):
            looks.append(now)
            with timer.watching():
                now += look_seconds * (1 + len(looks) % 2) * (first if len(looks) == 1 else 1)  # looks differ in length
    with timer.watching():  # the one at the end
        now += look_seconds
    assert timer.watch_share <= clock.WATCH_SHARE
    assert all(b - a >= 20 for a, b in itertools.pairwise(looks))
    assert len(looks) >= 3  # a dear first look does not keep all others away
    if look_seconds == 0.01:
        assert len(looks) == pytest.approx(steps * step_seconds / 20, abs=2)  # cheap looks keep their pace
    else:
        assert timer.watch_share >= 0.6 * clock.WATCH_SHARE  # dear ones use what they may
