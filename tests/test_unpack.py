"""WebDataset shards of other people: what their members mean, and what is refused."""

import io
import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from t2v_models.clips.media import to_mp4, to_webp
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import Ingested, ingest
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.unpack import as_folder, captions_in, tars_of
from tests.tiny import OPTIONS, TINY, clips, noise, pack, put, rejects, rendered, smooth


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
    with as_folder(str(shards), tmp_path / "out") as folder:
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
    with as_folder(str(tar), tmp_path / "out") as folder:
        assert ingest(folder, tmp_path / "out", OPTIONS).train == 1
    clip = put(tmp_path / "plain", "b.webp", to_webp(noise(0), 10))
    for source in (clip, clip.parent, tmp_path / "nothing"):
        with as_folder(str(source), tmp_path / "other") as folder:
            assert folder == source
    own = rendered(tmp_path / "own", TINY.model_copy(update={"clips": 4}))
    with pytest.raises(LabError, match="is a dataset already: train on it"):
        tars_of(str(own))


@pytest.mark.parametrize(
    ("members", "cut", "sentence"),
    [
        ({"../a.webp": b"x"}, 0, r"its member \.\./a\.webp would lie outside"),
        ({"/a.webp": b"x"}, 0, "would lie outside"),
        ({"a.webp": bytes(5000)}, 9000, "is no tar or is cut short"),
        ({"a.webp": bytes(5000)}, 10240 - 5632, "is cut short .*the mark of its end is missing"),  # behind a member
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
    with pytest.raises(LabError, match=sentence), as_folder(str(tar.parent), tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]


@pytest.mark.parametrize("told", [b"no JSON", b"\xff", b"[" * 200_000, b"7"])
def test_a_json_that_tells_nothing_has_no_captions(told: bytes) -> None:
    assert captions_in(told) == []


def test_tars_by_url_and_by_braces_are_fetched_one_by_one(tmp_path: Path) -> None:
    """As img2dataset writes them, behind a URL that fsspec knows."""
    for number in range(3):
        members = {f"{number:05d}{i:04d}.jpg": picture(9 * number + i) for i in range(2)}
        members |= {name.replace("jpg", "txt"): f"picture {name[:9]}".encode() for name in members}
        pack(tmp_path / f"{number:05d}.tar", members | {f"{number:05d}9999.json": b'{"caption": "it failed to load"}'})
        fsspec.filesystem("memory").put(str(tmp_path / f"{number:05d}.tar"), f"/images/{number:05d}.tar")
    options = IngestOptions(spec=ClipSpec(size=16, frames=1), validation=0)
    for source, out in (("memory://images/{00000..00002}.tar", "url"), (f"{tmp_path}/{{00000..00002}}.tar", "here")):
        with as_folder(source, tmp_path / out) as folder:
            assert ingest(folder, tmp_path / out, options).train == 6
        told = rejects(tmp_path / out)
        assert told == {f"0000{i}/0000{i}9999.txt": "a caption without a clip of its name beside it" for i in range(3)}
    np.testing.assert_array_equal(clips(tmp_path / "url"), clips(tmp_path / "here"))
    assert Manifest.load(tmp_path / "url").captions[-1] == "picture 000020001"
    for source, sentence in (
        ("memory://images/{00002..00003}.tar", "00003.tar at memory://images is not there: is this its address"),
        (f"{tmp_path}/{{00002..00003}}.tar", "there is no tar .*00003.tar: of 2 that"),
        ("https://host/films", "https://host/films is no tar: by URL or by braces"),
        (f"{tmp_path}/{{00002..", "the braces of .* do not match"),
    ):
        with pytest.raises(LabError, match=sentence), as_folder(source, tmp_path / "other"):
            pass
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".tar") == ["here", "url"]


def test_tars_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    for number, side in enumerate(("a", "b")):
        (tmp_path / side).mkdir()
        pack(tmp_path / side / "0.tar", {"x.webp": to_webp(noise(number), 10), "x.txt": b"a cat"})
    with as_folder(f"{tmp_path}/{{a,b}}/0.tar", tmp_path / "out") as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["a-0", "b-0"]


def test_shards_without_captions_are_one_sentence(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", {f"{i}.webp": to_webp(noise(i), 10) for i in range(3)})
    with (
        pytest.raises(
            LabError, match=r"^[^ ]*/a.tar holds no clip with a caption \(3 rejected; the first, a/0.webp: no"
        ),
        as_folder(str(tmp_path / "a.tar"), tmp_path / "out") as folder,
    ):
        ingest(folder, tmp_path / "out", OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_what_a_killed_process_unpacked_is_removed(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", {"a.webp": b"x"})
    (tmp_path / ".out-unpacked-killed" / "old").mkdir(parents=True)
    with as_folder(str(tmp_path / "a.tar"), tmp_path / "out") as folder:
        assert [path.name for path in tmp_path.glob(".out-*")] == [folder.name]


def test_frames_of_two_sizes_are_no_clip(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", {f"k.{i}.png": png(noise(0)[0][: 16 - 4 * i]) for i in range(2)} | {"k.txt": b"a cat"})
    sentence = r"a.tar: its sample k has frames of two sizes, 16 x 16 in 0.png and 16 x 12 in 1.png: write the tar"
    with pytest.raises(LabError, match=sentence), as_folder(str(tmp_path / "a.tar"), tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def picture(seed: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(smooth(seed, 1)[0]).save(content, "JPEG")
    return content.getvalue()


def png(frame: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "PNG")
    return content.getvalue()
