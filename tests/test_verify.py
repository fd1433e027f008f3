"""Every damage, wherever it strikes and in any company, is found and named with its file."""

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_models.config import LabError
from t2v_models.shards.manifest import CARD, MANIFEST, SUMS
from t2v_models.shards.verify import verify
from t2v_models.shards.write import file_sha256, shard_name
from tests.tiny import TINY, rendered

Damage = Callable[[Path, Path, float], str]
"""Damages the dataset in the first folder, maybe by files of the second, at a place in [0, 1); says what is named."""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of as many shards and other clips."""
    return rendered(tmp_path_factory.mktemp("other"), TINY.model_copy(update={"seed": 1}))


def at(path: Path, place: float) -> int:
    return int(place * path.stat().st_size)


def flipped(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[at(path, place)] ^= 1 << int(place * 997) % 8
    path.write_bytes(content)


def cut(path: Path, place: float) -> None:
    path.write_bytes(path.read_bytes()[: at(path, place)])


def rewritten(path: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> None:
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    change(members)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))


def flipped_byte(folder: Path, other: Path, place: float) -> str:
    flipped(folder / shard_name(0), place)
    return shard_name(0)


def cut_tar(folder: Path, other: Path, place: float) -> str:
    cut(folder / shard_name(0), place)
    return f"{shard_name(0)} has {(folder / shard_name(0)).stat().st_size:,} bytes instead of"


def missing_member(folder: Path, other: Path, place: float) -> str:
    gone = []
    rewritten(folder / shard_name(0), lambda members: gone.append(members.pop(int(place * len(members)))))
    return f"{shard_name(0)} has missing members: {gone[0][0].name}"


def extra_member(folder: Path, other: Path, place: float) -> str:
    stranger = tarfile.TarInfo("stranger.txt"), b""
    rewritten(folder / shard_name(0), lambda members: members.insert(int(place * len(members)), stranger))
    return f"{shard_name(0)} has extra members: stranger.txt"


def swapped_shards(folder: Path, other: Path, place: float) -> str:
    first, second = (folder / shard_name(index) for index in (0, 1))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    return f"{shard_name(0)} holds the bytes of {shard_name(1)}"


def missing_shard(folder: Path, other: Path, place: float) -> str:
    (folder / shard_name(0)).unlink()
    return f"{shard_name(0)} is missing"


def shard_of_another_dataset(folder: Path, other: Path, place: float) -> str:
    shutil.copy(other / shard_name(0), folder)
    return f"{shard_name(0)} has changed pixels in clips 000000000"


def stray_shard(folder: Path, other: Path, place: float) -> str:
    shutil.copy(other / shard_name(0), folder / "shard-00007.tar")
    return "shard-00007.tar is no shard of this dataset"


def stale_temporary(folder: Path, other: Path, place: float) -> str:
    (folder / f"{shard_name(1)}.99999999.tmp").write_bytes(b"half")  # no process has this number
    return f"{shard_name(1)}.99999999.tmp is left over from a writer that was killed"


def flipped_manifest(folder: Path, other: Path, place: float) -> str:
    flipped(folder / MANIFEST, place)
    return MANIFEST  # bytes that mean something make it unreadable, others are told by the sums


def cut_manifest(folder: Path, other: Path, place: float) -> str:
    cut(folder / MANIFEST, place)
    return f"{MANIFEST} is damaged or is no manifest"


def other_manifest(folder: Path, other: Path, place: float) -> str:
    shutil.copy(other / MANIFEST, folder)
    return f"{shard_name(1)} is whole but is not the shard that the manifest describes"


def flipped_sums(folder: Path, other: Path, place: float) -> str:
    flipped(folder / SUMS, place)
    return f"{SUMS} and "


def flipped_card(folder: Path, other: Path, place: float) -> str:
    flipped(folder / CARD, place)
    return f"{SUMS} and {CARD} do not belong together"


def flipped_side_car(folder: Path, other: Path, place: float) -> str:
    flipped(folder / "shard-00001.parquet", place)
    return f"{SUMS} and shard-00001.parquet do not belong together"


def other_side_car(folder: Path, other: Path, place: float) -> str:
    shutil.copy(other / "shard-00001.parquet", folder)
    return f"{SUMS} and shard-00001.parquet do not belong together"


ALONE: list[Damage] = [
    flipped_manifest, cut_manifest, other_manifest, flipped_sums, flipped_card, flipped_side_car, other_side_car,
]  # fmt: skip
"""Damages of what names the others: found always, but beside another one only one of the two may be told."""
OF_SHARDS: list[Damage] = [
    flipped_byte, cut_tar, missing_member, extra_member, swapped_shards, missing_shard, shard_of_another_dataset,
]  # fmt: skip
BESIDE: list[Damage] = [stray_shard, stale_temporary]


@pytest.mark.parametrize("damage", [*ALONE, *OF_SHARDS, *BESIDE], ids=lambda damage: damage.__name__)
@settings(deadline=None, max_examples=5)
@given(place=st.floats(0, 1, exclude_max=True))
def test_every_damage_is_named(data: Path, other: Path, damage: Damage, place: float) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(data, Path(scratch) / "dataset"))
        sentence = damage(folder, other, place)
        found = verify(folder)
        assert any(sentence in line for line in found), (sentence, found)
        assert all(len(line) < 300 and "\n" not in line for line in found)


@settings(deadline=None, max_examples=12)
@given(
    pair=st.tuples(st.sampled_from([*ALONE, *OF_SHARDS]), st.sampled_from(BESIDE)),
    place=st.floats(0, 1, exclude_max=True),
)
def test_damages_do_not_hide_each_other(data: Path, other: Path, pair: tuple[Damage, Damage], place: float) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(data, Path(scratch) / "dataset"))
        sentences = [damage(folder, other, place) for damage in pair]
        found = verify(folder)
        told = [any(sentence in line for line in found) for sentence in sentences]
        unread = any(f"{MANIFEST} is damaged" in line for line in found)  # then nobody knows which shards there are
        assert told[0]
        assert told[1] or (unread and pair[1] is stray_shard), (sentences, found)


def test_a_lost_manifest_is_said(data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "dataset"))
    (folder / MANIFEST).unlink()
    with pytest.raises(LabError, match="is half-written: run `t2v render` again with the same options"):
        verify(folder)


def is_a_folder(path: Path) -> None:
    path.mkdir()


def leads_nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("none"))


def leads_to_itself(path: Path) -> None:
    path.symlink_to(path)


def leads_through_a_file(path: Path) -> None:
    path.symlink_to(path.with_name(shard_name(2)) / "x")


def fails_when_read(path: Path) -> None:
    path.symlink_to("/proc/self/mem")  # nothing lies at its first byte


BESIDE_SHARDS = (MANIFEST, SUMS, CARD, "shard-00000.parquet")


@pytest.mark.parametrize("name", [*BESIDE_SHARDS, shard_name(0)])
@pytest.mark.parametrize(("damage", "told"), [
    (is_a_folder, "is no file"), (leads_nowhere, "is no file"), (leads_to_itself, "is no file"),
    (leads_through_a_file, "is no file"), (fails_when_read, "cannot be read: Input/output error"),
])  # fmt: skip
def test_what_cannot_be_read_is_named_and_the_rest_is_verified(
    data: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], told: str
) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "dataset"))
    (folder / name).unlink()
    damage(folder / name)
    assert verify(folder) == [f"{name} {told}"]
    flipped(folder / shard_name(1), 0.5)
    (folder / f"{MANIFEST}.99999999.tmp").symlink_to(folder / f"{MANIFEST}.99999999.tmp")
    found = verify(folder)
    assert f"{name} {told}" in found
    assert any(shard_name(1) in line for line in found) or name == SUMS
    assert f"{MANIFEST}.99999999.tmp is left over from a writer that was killed" in found


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user to whom permissions matter."""
    if os.geteuid():
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_what_may_not_be_read_is_named(data: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        for name in (*BESIDE_SHARDS, shard_name(0)):
            folder = Path(shutil.copytree(data, Path(scratch) / name))
            for path in folder.iterdir():
                path.chmod(0o644)
            (folder / name).chmod(0)
            with without_rights():
                assert verify(folder) == [f"{name} cannot be read: Permission denied"]
        folder.chmod(0)
        with without_rights(), pytest.raises(LabError, match="may not be read: change its permissions"):
            verify(folder)
        folder.chmod(0o755)


@pytest.mark.parametrize("shards", ["{", "7", "[7]", "[{}]", '{"name": 1}'])
def test_a_manifest_of_broken_json_is_named(data: Path, tmp_path: Path, shards: str) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "dataset"))
    table = pq.read_table(folder / MANIFEST)
    before = file_sha256(folder / MANIFEST)
    pq.write_table(
        table.replace_schema_metadata(table.schema.metadata | {b"shards": shards.encode()}), folder / MANIFEST
    )
    (folder / SUMS).write_text((folder / SUMS).read_text().replace(before, file_sha256(folder / MANIFEST)))
    flipped(folder / shard_name(1), 0.5)
    found = verify(folder)
    assert len(found) == 2
    assert f"{MANIFEST} is damaged or is no manifest" in found[0]
    assert found[1].startswith(f"{SUMS} and {shard_name(1)} do not belong together")
