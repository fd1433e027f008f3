"""WebDataset shards of other people: what their members mean, and what is refused."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2v_models.clips.media import to_mp4, to_webp
from t2v_models.config import LabError
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import Ingested, ingest
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.unpack import as_folder, tars_of
from tests.tiny import OPTIONS, TINY, clips, noise, put, rejects, rendered, smooth


def test_samples_become_clips_with_their_captions(tmp_path: Path) -> None:
    """The layout of video2dataset: a sample is a film, a text and a JSON; and what else people pack."""
    shards = tmp_path / "shards"
    frames = {f"000000003.{i}.png": png(frame) for i, frame in enumerate(noise(3))}
    pack(shards / "00000.tar", {
        "000000000.mp4": to_mp4(smooth(0), 10), "000000000.txt": b"a cat walks",
        "000000000.json": json.dumps({"key": "000000000", "status": "success", "caption": "not this"}).encode(),
        "000000001.webp": to_webp(noise(1), 10), "000000001.json": b'{"caption": ["a dog  runs", "it runs"]}',
        "000000002.npz": to_npz(noise(2), 10), "000000002.json": b'{"status": "success"}',
    })  # fmt: skip
    pack(shards / "00001.tgz", {"./in/a.npz": to_npz(noise(1), 10), "./in/a.txt": b"a dog runs"}
         | frames | {"000000003.json": b'{"text": "a tree"}', "000000003.cls": b"7"}, "w:gz")  # fmt: skip
    with as_folder(shards, tmp_path / "out") as folder:
        found = ingest(folder, tmp_path / "out", OPTIONS)
    assert found == Ingested(4, 3, 0, 2)
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.captions == ["a cat walks", "a dog runs\nit runs", "a tree"]
    assert manifest.table["source"].to_pylist() == ["00000/000000000.mp4", "00000/000000001.webp", "00001/000000003"]
    np.testing.assert_array_equal(clips(tmp_path / "out")[1:], [noise(1), noise(3)])
    assert rejects(tmp_path / "out") == {
        "00000/000000002.npz": "no caption: there is no 000000002.txt and no table was given",
        "00001/in/a.npz": "the same frames are in another clip: in 00000/000000001.webp",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "shards"]


def test_one_tar_may_be_named_and_what_is_no_tar_stays_what_it_is(tmp_path: Path) -> None:
    tar = tmp_path / "one.tar"
    pack(tar, {"a.webp": to_webp(noise(0), 10), "a.txt": b"a cat"})
    with as_folder(tar, tmp_path / "out") as folder:
        assert ingest(folder, tmp_path / "out", OPTIONS).train == 1
    clip = put(tmp_path / "plain", "b.webp", to_webp(noise(0), 10))
    for source in (clip, clip.parent, tmp_path / "nothing"):
        with as_folder(source, tmp_path / "other") as folder:
            assert folder == source
    own = rendered(tmp_path / "own", TINY.model_copy(update={"clips": 4}))
    with pytest.raises(LabError, match="is a dataset already: train on it"):
        tars_of(own)


@pytest.mark.parametrize(
    ("members", "cut", "sentence"),
    [
        ({"../a.webp": b"x"}, 0, r"its member \.\./a\.webp would lie outside"),
        ({"/a.webp": b"x"}, 0, "would lie outside"),
        ({"a.webp": bytes(5000)}, 9000, "is no tar or is cut short"),
        ({}, 10240, "is no tar or is cut short"),
        ({"a.webp": b"x", "./a.webp": b"y"}, 0, r"holds a\.webp twice"),
        ({"a.mp4": b"x", "a.txt": b"a cat", "a.jpg": b"y"}, 0, r"its sample a is two clips, \.mp4 and \.jpg"),
    ],
)
def test_a_bad_tar_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, members: dict[str, bytes], cut: int, sentence: str
) -> None:
    tar = tmp_path / "shards" / "bad.tar"
    pack(tar, members)
    tar.write_bytes(tar.read_bytes()[: -cut or None])
    with pytest.raises(LabError, match=sentence), as_folder(tar.parent, tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]


def test_what_a_killed_process_unpacked_is_removed(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", {"a.webp": b"x"})
    (tmp_path / ".out-unpacked-killed" / "old").mkdir(parents=True)
    with as_folder(tmp_path / "a.tar", tmp_path / "out") as folder:
        assert [path.name for path in tmp_path.glob(".out-*")] == [folder.name]


def pack(tar: Path, members: dict[str, bytes], mode: str = "w") -> None:
    tar.parent.mkdir(exist_ok=True)
    with tarfile.open(tar, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))


def png(frame: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "PNG")
    return content.getvalue()
