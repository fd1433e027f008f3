"""A disk that fills up, and a folder that may not be written: one sentence, nothing broken, and the rerun completes."""

import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest

from flows.cli.main import main
from t2v_models.clips.media import to_webp
from t2v_models.config import LabError
from t2v_models.shards.export import KINDS, export
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingest_report import NOTICES, REJECTS
from t2v_models.shards.manifest import MANIFEST, Manifest
from t2v_models.shards.remote import RemoteStore
from t2v_models.shards.store import ClipStore
from t2v_models.shards.verify import verify
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tests.runs import SMALL, quiet, run_of
from tests.tiny import OPTIONS, noise, put

Mount = Callable[..., Path]
FULL = r"^cannot write [^\n]*: No space left on device; free some space or choose a folder you may write to$"
READ_ONLY = r"^cannot (write|remove) [^\n]*: Read-only file system; [^\n]*choose a folder you may write to$"


def small(mounted: Mount, kilobytes: int) -> Path:
    return mounted("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")


def enlarge(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m", str(folder)], check=True)


def locked(mounted: Mount, folder: Path) -> Path:
    """The same folder, read-only."""
    seen = mounted("--bind", str(folder))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(seen)], check=True)
    return seen


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for i in range(40):
        put(folder, f"{i}.webp", to_webp(noise(i), 10), f"clip {i}".encode())
    put(folder, "bad.mp4", b"no film")
    return folder


@pytest.mark.parametrize("kilobytes", [4, 60, 150, 240, 268])
def test_an_ingest_onto_a_full_disk(source: Path, mounted: Mount, tmp_path: Path, kilobytes: int) -> None:
    """From the first file to the last: 40 clips of 4.6 kB."""
    options = OPTIONS.model_copy(update={"clips_per_shard": 10, "validation": 0.2})
    ingest(source, tmp_path / "whole", options)
    whole, folder = files(tmp_path / "whole"), small(mounted, kilobytes)
    with pytest.raises(LabError, match=FULL):
        ingest(source, folder, options)
    found = files(folder)
    assert all(whole[name] == content for name, content in found.items() if name not in (REJECTS, NOTICES))
    assert MANIFEST not in found
    enlarge(folder)
    assert ingest(source, folder, options).train == 32
    assert files(folder) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_onto_a_full_disk(data: Path, mounted: Mount, tmp_path: Path, kind: str) -> None:
    store, folder = ClipStore(Manifest.load(data)), small(mounted, 120)
    export(store, tmp_path / "whole", kind)
    whole = files(tmp_path / "whole")
    with pytest.raises(LabError, match=FULL):
        export(store, folder, kind)
    found = files(folder)
    assert found.items() < whole.items()
    enlarge(folder)
    assert export(store, folder, kind) == 90
    assert files(folder) == whole


@pytest.fixture
def url(data: Path) -> str:
    fsspec.filesystem("memory").put(str(data), "/full", recursive=True)
    return "memory://full"


def test_a_cache_on_a_full_disk(url: str, data: Path, mounted: Mount) -> None:
    here, cache = ClipStore(Manifest.load(data)), small(mounted, 100)
    with pytest.raises(LabError, match=FULL):
        RemoteStore(url, cache).frames(range(90))
    whole = {path.read_bytes() for path in data.iterdir()} | {b""}  # and locks
    assert set(files(cache).values()) <= whole
    enlarge(cache)
    assert (RemoteStore(url, cache).frames(range(90)) == here.frames(range(90))).all()


@pytest.mark.parametrize("leftover", [None, "rejects.parquet", "000000000.webp", "manifest.parquet"])
def test_nothing_is_written_to_a_read_only_folder(
    source: Path, url: str, data: Path, mounted: Mount, tmp_path: Path, leftover: str | None
) -> None:
    """Also where a killed writer left something that is to be cleared away first."""
    folder = tmp_path / "folder"
    folder.mkdir()
    if leftover:
        (folder / f"{leftover}.99999999.tmp").write_bytes(b"half")
    before, seen = files(folder), locked(mounted, folder)
    with pytest.raises(LabError, match=READ_ONLY):
        ingest(source, seen, OPTIONS)
    with pytest.raises(LabError, match=READ_ONLY):
        RemoteStore(url, seen)
    with pytest.raises(LabError, match=READ_ONLY if leftover in (None, "000000000.webp") else "holds other files"):
        export(ClipStore(Manifest.load(data)), seen, "webp")
    assert files(folder) == before


def test_commands_end_with_2_and_one_sentence(
    data: Path, mounted: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = small(mounted, 40)
    monkeypatch.setattr(
        sys, "argv", ["t2v", "export", str(data), str(full), "--kind", "npz", "--work", str(tmp_path / "work")]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "No space left on device; free some space" in " ".join(told.split())
    assert "Traceback" not in told
    assert verify(data) == []


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a GAN that has learned nothing."""
    folder = tmp_path_factory.mktemp("runs") / "gan"
    fit(
        run_of(data, SMALL["gan"]), ClipStore(Manifest.load(data)), TrainConfig(steps=1, probe_seconds=0), folder, quiet
    )
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "RUN", "circle moving left", "--out", "LOCKED/clip.mp4"),
        ("generate", "RUN", "circle moving left", "--out", "LOCKED/of/its/own/clip.mp4"),
        ("train", "DATA", "--steps", "1", "--out", "LOCKED"),
        ("evaluate", "RUN", "--out", "LOCKED/of/its/own"),
        ("evaluate", "LOCKED"),
        ("compare", "RUN", "RUN", "--out", "LOCKED"),
        ("export", "DATA", "LOCKED/of/its/own"),
        ("render", "DATA", "--work", "LOCKED"),
    ],
)
def test_a_folder_that_may_not_be_written_is_named_before_any_work(
    arguments: tuple[str, ...], run: Path, data: Path, mounted: Mount,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    places = {"DATA": data, "RUN": run, "LOCKED": locked(mounted, run)}
    filled = [re.sub("DATA|RUN|LOCKED", lambda word: str(places[word[0]]), argument) for argument in arguments]
    before = files(run)
    monkeypatch.setattr(sys, "argv", ["t2v", *filled])
    with pytest.raises(SystemExit) as ended:
        main()
    *_, told = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert re.search("^t2v: .*(is no folder you may write to; name another one|: Read-only file system; )", told), told
    assert files(run) == before


def test_what_a_training_writes_is_said_of_a_full_disk(data: Path, mounted: Mount) -> None:
    """Its weights fit, and then a line of figures does not."""
    store, full = ClipStore(Manifest.load(data)), small(mounted, 4000)

    def fill(step: int, figures: dict[str, float]) -> None:
        with (full / "filler").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1024))

    config = TrainConfig(steps=200, log_every=1, probe_seconds=0)
    with pytest.raises(LabError, match=r"cannot write .*metrics.jsonl: No space left on device"):
        fit(run_of(data, SMALL["gan"]), store, config, full / "run", fill)
