"""People's own clips: whatever lies in the folder becomes clips or a reason, and lossless files keep every pixel."""

import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Generator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from t2v_models.clips.media import to_webp
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.export import KINDS, export, to_npz
from t2v_models.shards.ingest import Ingested, ingest, look
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.isolated import Work, isolated
from t2v_models.shards.manifest import MANIFEST, Manifest, finish
from t2v_models.shards.sources import Excerpt, Source
from t2v_models.shards.spool import spool_path, spooling
from t2v_models.shards.store import ClipStore
from t2v_models.shards.verify import verify
from t2v_models.shards.windows import Job, Windows
from t2v_models.shards.write import write_shard
from t2v_models.worlds.dataset import DatasetConfig
from tests.films import write
from tests.tiny import OPTIONS, SPEC, TO_FILE, clips, noise, put, put_frames, rejects, smooth


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 20 clips."""
    folder = tmp_path_factory.mktemp("rendered")
    config = DatasetConfig(clips=20, spec=SPEC)
    write_shard(folder, config, 0)
    finish(folder, config)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_comes_back(rendered: Path, tmp_path: Path, kind: str) -> None:
    manifest = Manifest.load(rendered)
    assert export(ClipStore(manifest), tmp_path / "files", kind) == 20
    assert ingest(tmp_path / "files", tmp_path / "back", OPTIONS) == Ingested(20, 20, 0, 0)
    assert verify(tmp_path / "back") == []
    assert Manifest.load(tmp_path / "back").captions == manifest.captions
    difference = np.abs(clips(tmp_path / "back").astype(int) - clips(rendered))
    assert difference.max() == 0 if kind in ("webp", "npz", "png") else difference.mean() < 3


def test_every_kind_of_source_becomes_clips_whatever_its_suffix_says(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for i, kind in enumerate(TO_FILE):
        put(source, f"sub/{kind}.{kind}", TO_FILE[kind](smooth(i), 10), f"clip number {i}".encode())
    put(source, "wrong.mp4", to_webp(noise(7), 10), b"a wrong suffix")
    put_frames(source / "frames", noise(8, 12))
    result = ingest(source, tmp_path / "out", OPTIONS)
    assert result == Ingested(6, 7, 0, 0)
    manifest = Manifest.load(tmp_path / "out")
    rows = manifest.table.to_pylist()
    assert [(r["source"], r["source_frame"]) for r in rows] == [
        ("frames", 0), ("frames", 6), ("sub/gif.gif", 0), ("sub/mp4.mp4", 0), ("sub/npz.npz", 0),
        ("sub/webp.webp", 0), ("wrong.mp4", 0),
    ]  # fmt: skip
    assert rows[0]["caption"] == "a dog runs"
    assert set(manifest.config.prompts) == set(manifest.captions)
    np.testing.assert_array_equal(clips(tmp_path / "out")[[0, 1]], noise(8, 12).reshape(2, 6, 16, 16, 3))
    again = ingest(source, tmp_path / "out", OPTIONS)
    assert again == result
    wide = OPTIONS.model_copy(update={"spec": OPTIONS.spec.model_copy(update={"width": 32})})
    for added, sentence in (
        (False, r"\(spec.width is 16 there and 32 now\)"),
        (True, "with spec.width 16 and not 32:"),
    ):
        with pytest.raises(LabError, match=sentence):
            look(source, tmp_path / "out", wide, add=added)
    put(source, "one_more.webp", to_webp(noise(9), 10))
    with pytest.raises(LabError, match=r"holds another dataset \(source_sha256 is .* there and .* now\)"):
        ingest(source, tmp_path / "out", OPTIONS)


def test_the_bytes_do_not_depend_on_the_folder_or_the_number_of_processes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for i in range(7):
        put(source, f"{i}.webp", to_webp(noise(i, 9), 10), f"clip {i}".encode())
    options = OPTIONS.model_copy(update={"stride": 3, "validation": 0.3, "clips_per_shard": 4})
    ingest(source, tmp_path / "one", options)
    ingest(Path(shutil.copytree(source, tmp_path / "copy")), tmp_path / "two", options, mapper=isolated(2))
    for path in (p for p in (tmp_path / "one").rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path


def test_files_are_split_whole_and_equal_clips_are_kept_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for i in range(10):
        put(source, f"{i}.webp", to_webp(noise(i, 18), 10), f"clip {i}".encode())
    put(source, "9_again.npz", to_npz(noise(9, 18)[6:], 10), b"other words")
    result = ingest(source, tmp_path / "out", OPTIONS.model_copy(update={"validation": 0.25}))
    assert (result.sources, result.train + result.validation, result.rejects) == (11, 30, 2)
    owners = [set(Manifest.load(tmp_path / "out" / part).table["source"].to_pylist()) for part in ("", "validation")]
    assert not owners[0] & owners[1]
    assert sum(map(len, owners)) == 10
    assert 2 <= len(owners[1]) <= 3
    assert rejects(tmp_path / "out")["9_again.npz"] == "the same frames are in another clip: in 9.webp"


def test_captions_of_any_script_train_a_model(tmp_path: Path) -> None:
    """Chinese, Hindi, Cyrillic, accents in either form, emoji beside words: through ingest, one step and a sample."""
    import torch  # here, so that the processes of other tests need not import it

    from t2v_models.fresh import new_run
    from t2v_models.generate import load_run
    from t2v_models.sampler import sample_frames
    from t2v_models.text.words import Words, vocabulary_of
    from t2v_models.training import loop
    from tests.runs import SMALL, quiet

    texts = ("一只猫在走", "बिल्ली चलती है", "Кошка идёт", "un café", "🐱 cat")
    for i, text in enumerate(texts):
        put(tmp_path / "source", f"{i}.webp", to_webp(noise(i), 10), text.encode())
    assert ingest(tmp_path / "source", tmp_path / "out", OPTIONS) == Ingested(5, 5, 0, 0)
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.captions == list(texts)
    vocabulary = vocabulary_of(manifest.captions)
    assert {"猫", "走", "बिल्ली", "кошка", "café", "cat"} < set(vocabulary)
    assert "🐱" not in vocabulary
    bags = Words(vocabulary).pooled([*texts, "猫 走 在 只 一", "CAFE\u0301 un"])
    assert torch.equal(bags[0], bags[5])
    assert torch.equal(bags[3], bags[6])
    assert len({tuple(bag.tolist()) for bag in bags[:5]}) == 5
    run = new_run(manifest, SMALL["gan"], seed=0)
    loop.fit(run, ClipStore(manifest), loop.TrainConfig(steps=1, probe_seconds=0), tmp_path / "run", quiet)
    assert sample_frames(load_run(tmp_path / "run"), ["猫在走"], [0]).shape == (1, 6, 16, 16, 3)
    with pytest.raises(LabError, match="was not trained on the word '狗'"):
        sample_frames(load_run(tmp_path / "run"), ["一只狗"], [0])


def test_a_film_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2v_models.shards.windows.MOST_FRAMES", 100)
    put(tmp_path / "source", "long.webp", to_webp(noise(0, 101), 10))
    put(tmp_path / "source", "right.webp", to_webp(noise(1, 100), 10))
    assert ingest(tmp_path / "source", tmp_path / "out", OPTIONS) == Ingested(2, 16, 0, 1)
    assert rejects(tmp_path / "out") == {"long.webp": "it has more than 100 frames: cut it into several files"}


def dies_at_three(how: signal.Signals, job: Job) -> Windows:
    if job.source.path == "3.webp":
        os.kill(os.getpid(), how)
    return f"seen {job.source.path}"


def six_jobs(folder: Path) -> list[Job]:
    sources = [Source(f"{i}.webp", Path(f"{i}.webp"), (Excerpt("x"),)) for i in range(6)]
    return [Job(source, spool_path(folder, i)) for i, source in enumerate(sources)]


@pytest.mark.slow
def test_a_decoder_that_crashes_takes_only_its_own_file_with_it(tmp_path: Path) -> None:
    jobs, work = six_jobs(tmp_path), partial(dies_at_three, signal.SIGSEGV)
    expected = [f"seen {i}.webp" if i != 3 else "the decoder crashed on it (SIGSEGV)" for i in range(6)]
    assert list(isolated(2)(work, jobs, ignored)) == expected
    found = []
    for result in isolated(2)(work, jobs, ignored):
        found.append(result)
        time.sleep(1 if len(found) == 1 else 0)  # the pool breaks before the next file is given to it
    assert found == expected


def ignored(share: float) -> None:
    """Progress."""


def runs_out_at_three(job: Job) -> Windows:
    if job.source.path == "3.webp":
        np.empty(2**60, np.uint8)
    return f"seen {job.source.path}"


@pytest.mark.slow
def test_memory_that_runs_out_is_named(tmp_path: Path) -> None:
    """A file that asks for too much is rejected; where the system ends a process, all stops and no film is lost."""
    jobs = six_jobs(tmp_path)[3:5]
    expected = ["memory ran out while it was decoded, with no other file beside it", "seen 4.webp"]
    assert list(isolated(1)(runs_out_at_three, jobs, ignored)) == expected
    seen = isolated(1)(partial(dies_at_three, signal.SIGKILL), jobs, ignored)
    with pytest.raises(LabError, match=r"memory ran out on 3.webp: the system ended .*; free some memory, or leave"):
        list(seen)


def test_memory_does_not_grow_with_a_film(tmp_path: Path) -> None:
    """Neither where it is decoded nor where it is stored, which are one process here."""
    options = IngestOptions(spec=ClipSpec(size=64, frames=10), validation=0)
    peaks = []
    for count in (100, 600):
        source = tmp_path / str(count)
        film = write(tmp_path / f"{count}.mp4", [noise(i, 1, 64, 64)[0] for i in range(count)])
        put(source, "a.mp4", film.read_bytes())
        tracemalloc.start()
        try:
            assert ingest(source, tmp_path / f"out-{count}", options).train == count / 10
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1e6  # the clips of 500 more frames have 6.1 MB


def waits(job: Job) -> Windows:
    with spooling(job.spool) as spool:
        spool.add(b"half", 0.5)
        while not job.spool.with_suffix(".seen").exists():
            time.sleep(0.01)
    return "done"


def test_progress_goes_on_inside_a_film(tmp_path: Path) -> None:
    job, shares = six_jobs(tmp_path)[0], list[float]()

    def on_share(share: float) -> None:
        shares.append(share)
        if share == 0.5:
            job.spool.with_suffix(".seen").touch()

    assert list(isolated(1)(waits, [job], on_share)) == ["done"]
    assert set(shares) == {0, 0.5} or set(shares) == {0.5}


KILLED_INGEST = """
import os, signal, sys
from pathlib import Path
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
left, replace = int(sys.argv[4]), os.replace
def counted(*paths):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = counted
ingest(Path(sys.argv[1]), Path(sys.argv[2]), IngestOptions.model_validate_json(sys.argv[3]))
"""
"""Killed while it writes its file number `argv[4]`, which lies there under its temporary name."""


@pytest.mark.slow
def test_a_killed_ingest_is_done_again_with_the_same_bytes(tmp_path: Path) -> None:
    """At its first file, between shards, while the validation set is finished, and before the last manifest."""
    source = tmp_path / "source"
    for i in range(12):
        put(source, f"{i}.webp", to_webp(noise(i, 24), 10), f"clip {i}".encode())
    options = OPTIONS.model_copy(update={"clips_per_shard": 5, "validation": 0.2})
    ingest(source, tmp_path / "whole", options)
    whole = files_in(tmp_path / "whole")
    shards = sum(path.suffix == ".tar" for path in whole)
    last = len(whole) + 1  # rejects and notices are written twice
    for done in (0, shards // 2, shards + 4, last):
        out = tmp_path / f"killed-{done}"
        command = [sys.executable, "-c", KILLED_INGEST, str(source), str(out), options.model_dump_json(), str(done)]
        assert subprocess.run(command).returncode == -signal.SIGKILL
        left = files_in(out)
        assert any(path.suffix == ".tmp" for path in left), "it was not at work"
        assert Path(MANIFEST) not in left
        ingest(source, out, options)
        assert files_in(out) == whole


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folders_that_cannot_be_used_are_said(tmp_path: Path, data: Path) -> None:
    source = tmp_path / "source"
    with pytest.raises(LabError, match="there is no folder, table or clip"):
        ingest(source, tmp_path / "out", OPTIONS)
    put(source, "bad.mp4", b"no film")
    with pytest.raises(LabError, match=r"no clip of .* can be used \(1 rejected; the first, bad.mp4: "):
        ingest(source, tmp_path / "out", OPTIONS)
    assert list(rejects(tmp_path / "out")) == ["bad.mp4"]
    for name in ("few.gif", "less.gif"):
        put(source, name, TO_FILE["gif"](noise(len(name), 3), 10))
    with pytest.raises(LabError, match=r"\(3 rejected; 2 as few.gif: it has 3 frames at 10"):
        ingest(source, tmp_path / "short", OPTIONS)
    with pytest.raises(LabError, match="lies inside"):
        ingest(source, source / "out", OPTIONS)
    with pytest.raises(LabError, match="holds another dataset"):
        ingest(source, data, OPTIONS)
    stranger = tmp_path / "stranger"
    put(stranger, "shard-00000.tar", b"mine", None)
    for name in ("shard-00000.tar", "manifest.parquet"):
        with pytest.raises(LabError, match="holds shards or a manifest of something else"):
            ingest(source, stranger, OPTIONS)
        assert (stranger / name).read_bytes() == b"mine"
        (stranger / name).rename(stranger / "manifest.parquet")
    beside = tmp_path / "beside"
    shutil.copytree(data, beside / "validation")
    with pytest.raises(LabError, match="validation holds another dataset"):
        ingest(source, beside, OPTIONS)
    assert Manifest.load(beside / "validation").digest == Manifest.load(data).digest
    with pytest.raises(LabError, match="unknown kind 'mov'"):
        export(ClipStore(Manifest.load(data)), tmp_path / "files", "mov")
    put(source, "2024-thesis.backup.tmp", b"mine", None)
    with pytest.raises(LabError, match="holds other files"):
        export(ClipStore(Manifest.load(data)), source, "mp4")
    assert (source / "2024-thesis.backup.tmp").exists()


def test_an_ingest_that_fails_leaves_no_manifest_of_an_earlier_one(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for i in range(4):
        put(source, f"{i}.webp", to_webp(noise(i), 10))
    options = OPTIONS.model_copy(update={"validation": 0.25, "clips_per_shard": 2})
    assert ingest(source, out, options) == Ingested(4, 3, 1, 0)
    kept = {item["source"] for item in Manifest.load(out / "validation").table.to_pylist()}
    whole = {path: path.read_bytes() for path in out.rglob("*.*")}

    def crash(work: Work, jobs: list[Job], on_share: object) -> Generator[Windows, None, None]:
        yield from ("the decoder crashed on it" if job.source.path in kept else work(job) for job in jobs)

    def stop(work: Work, jobs: list[Job], on_share: object) -> Generator[Windows, None, None]:
        yield from islice(map(work, jobs), 3)
        raise KeyboardInterrupt

    def crash_always(work: Work, jobs: list[Job], on_share: object) -> Generator[Windows, None, None]:
        yield from ["the decoder crashed on it"] * len(jobs)

    def lose_a_shard() -> None:
        assert ingest(source, out, options) == Ingested(4, 3, 1, 0)
        assert {path: path.read_bytes() for path in out.rglob("*.*")} == whole
        (out / "shard-00000.tar").unlink()

    lose_a_shard()
    assert ingest(source, out, options, mapper=crash) == Ingested(4, 3, 0, 1)
    assert not (out / "validation" / "manifest.parquet").exists()
    (out / "shard-00000.tar").unlink()
    lose_a_shard()
    with pytest.raises(KeyboardInterrupt):
        ingest(source, out, options, mapper=stop)
    assert not list(out.rglob("manifest.parquet"))
    lose_a_shard()
    with pytest.raises(LabError, match="no clip of .* can be used"):
        ingest(source, out, options, mapper=crash_always)
    assert not list(out.rglob("manifest.parquet"))
    lose_a_shard()


def test_a_dataset_that_another_version_of_the_ingest_made_is_not_taken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for i in range(4):
        put(source, f"{i}.webp", to_webp(noise(i), 10))
    options = OPTIONS.model_copy(update={"validation": 0.25})
    monkeypatch.setattr("t2v_models.shards.ingested.INGEST_VERSION", "1")
    made = ingest(source, out, options)
    assert ingest(source, out, options) == made
    monkeypatch.undo()
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    found = r"out holds another dataset \(another version of the ingest made it\): choose another folder or delete it"
    with pytest.raises(LabError, match=found):
        ingest(source, out, options)
    (out / "manifest.parquet").unlink()  # its side-cars say the same
    with pytest.raises(LabError, match=found):
        ingest(source, out, options)
    for path in out.glob("*.*"):
        path.unlink()
    with pytest.raises(LabError, match=r"out/validation holds another dataset \(another version"):
        ingest(source, out, options)
    assert all(path.read_bytes() == before[path] for path in out.rglob("*.*"))


def test_ingesting_never_imports_torch() -> None:
    check = "import sys, t2v_models.shards.ingest, t2v_models.shards.export; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_every_model_trains_on_ingested_clips_and_cannot_be_judged(tmp_path: Path) -> None:
    """Of films that are none of our worlds': ramps that move, in words that no grammar knows."""
    from t2v_models.checkpoint import load
    from t2v_models.training import loop  # here, so that the processes of other tests need not import torch
    from tasks.subjects import subject
    from tests.runs import SMALL, run_of

    for i in range(8):
        put(tmp_path / "files", f"{i}.webp", to_webp(smooth(i), 10), (b"a wave rolls in", b"sand drifts away")[i % 2])
    ingest(tmp_path / "files", tmp_path / "data", OPTIONS)
    manifest = Manifest.load(tmp_path / "data")
    for name, model in SMALL.items():
        folder, run = tmp_path / name, run_of(tmp_path / "data", model)
        loop.fit(
            run, ClipStore(manifest), loop.TrainConfig(steps=1, probe_seconds=0), folder, log=lambda step, figures: None
        )
        assert load(folder)[1].run == run
        with pytest.raises(LabError, match="ingested clips, whose ground truth is unknown"):
            subject(folder)
