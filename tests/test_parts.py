"""Parts of films: counted from where the file begins, as players count, and ends that are no whole pictures."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.shards.decode import shown
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingest_report import NOTICES
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.picture import Told
from tests.films import write
from tests.tiny import clips, noise, put, rejects

HASTY = {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=error:pools=none:frame-threads=1"}
OPTIONS = IngestOptions(spec=ClipSpec(size=16, frames=5, fps=10), validation=0)


def with_sound(path: Path, late: float) -> Path:
    """A film at 10 pictures a second, the i-th of value 6 i, with sound; its pictures begin `late` s after it."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("mp2", rate=48_000, layout="mono")
        stream = container.add_stream("libx264", rate=10, options={"crf": "5", "bf": "0", "tune": "zerolatency"})
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        packets = []
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 6 * i, np.uint8), format="rgb24")
            packets += stream.encode(frame)
            quiet = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
            quiet.sample_rate, quiet.pts, quiet.time_base = 48_000, 4800 * i, Fraction(1, 48_000)
            container.mux(sound.encode(quiet))
        container.mux(sound.encode(None))
        for packet in [*packets, *stream.encode(None)]:
            packet.pts, packet.dts = (int(time + late / packet.time_base) for time in (packet.pts, packet.dts))
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("late", [0.0, 1.0])
def test_parts_are_counted_from_where_the_file_begins(tmp_path: Path, suffix: str, late: float) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with_sound(source / f"a.{suffix}", late)
    table = put(source, "t.csv", f"path,caption,start,end\na.{suffix},a cat,2,3\n".encode(), None)
    ingest(table, tmp_path / "out", OPTIONS)
    first = round(20 - 10 * late)
    assert Manifest.load(tmp_path / "out").table["source_frame"].to_pylist() == [first, first + 5]
    seen = clips(tmp_path / "out")[:, :, 8, 8, 0].ravel()
    np.testing.assert_allclose(seen, 6 * np.arange(first, first + 10), atol=3)


def test_a_part_that_ends_after_its_film_is_told(tmp_path: Path) -> None:
    put(tmp_path / "source", "a.npz", to_npz(noise(0, 24), 10), None)
    for end, told in (("2.5", 0), ("2.6", 1), ("99", 1), ("", 0)):
        table = put(tmp_path / "source", "t.csv", f"path,caption,start,end\na.npz,a cat,0.5,{end}\n".encode(), None)
        ingest(table, tmp_path / f"out-{end}", OPTIONS)
        notices = pq.read_table(tmp_path / f"out-{end}" / NOTICES)["notice"].to_pylist()
        assert notices == ["a part of it is said to end after it does: its clips end with it"][:told]


@pytest.mark.parametrize(("codec", "keys"), [("libx264", {"g": "3"}), ("libx265", HASTY)])
def test_a_transport_stream_that_ends_amid_a_picture_too_late_for_a_clip_is_told(
    tmp_path: Path, codec: str, keys: dict[str, str]
) -> None:
    """FFmpeg's decoder of HEVC says nothing of it."""
    whole = write(tmp_path / "whole.ts", list(noise(0, 7, 80, 112)), codec, crf="18", **keys).read_bytes()
    assert len(whole) % 188 == 0
    for cut in (0, 1, 4, 9, 14):
        put(tmp_path / f"{cut}", "a.ts", whole[: -188 * cut or None])
        ingest(tmp_path / f"{cut}", tmp_path / f"out-{cut}", OPTIONS)
        assert list(rejects(tmp_path / f"out-{cut}")) == ["a.ts"][:cut]
        assert len(clips(tmp_path / f"out-{cut}")) == 1


@pytest.mark.parametrize("suffix", ["hevc", "mpg"])
def test_of_hevc_that_does_not_tell_its_end_the_last_picture_is_left_out(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", list(noise(0, 7, 80, 112)), "libx265", rate=25, **HASTY)
    found = list(shown(path, 25, told := Told()))
    assert [bool(found[i].damage) for i in (0, 1, 2, 3, 4, -1)] == [False] * 5 + [True]
    assert told.lost == "nothing in HEVC in such a file tells whether it ends whole"
