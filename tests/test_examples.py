"""Scripts that make clips for `t2v ingest` of what others drew."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPT = EXAMPLES / "line_icons.py"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def package(folder: Path, icons: dict[str, str]) -> Path:
    content = json.dumps({"icons": {name: {"body": body} for name, body in icons.items()}}).encode()
    member = tarfile.TarInfo("package/icons.json")
    member.size = len(content)
    with tarfile.open(folder / "icons.tgz", "w:gz") as tar:
        tar.addfile(member, io.BytesIO(content))
    return folder / "icons.tgz"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_line_icons_are_drawn_as_they_move_with_captions_of_their_names(tmp_path: Path) -> None:
    grows = '<rect height="24" width="0"><animate attributeName="width" dur="2s" fill="freeze" values="0;24"/></rect>'
    icons = {"bar-grows": grows, "still": '<rect height="24" width="24"/>', "bar-filled-grows-loop": grows}
    command = [sys.executable, SCRIPT, tmp_path / "clips", "--size", "24", "--package", package(tmp_path, icons)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "2 clips" in done.stdout
    names = sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert names == ["bar-filled-grows-loop.webp", "bar-grows.webp", "list.csv"]
    said = ["path,caption,group", "bar-grows.webp,bar grows,bar grows"]
    said += ["bar-filled-grows-loop.webp,bar filled grows loop,bar grows"]
    assert (tmp_path / "clips" / "list.csv").read_text().splitlines() == said
    film = Image.open(tmp_path / "clips" / "bar-grows.webp")
    dark = [(255 - np.asarray(frame.convert("L"), float)).mean() / 255 for frame in ImageSequence.Iterator(film)]
    assert dark == pytest.approx(np.linspace(0, 1, 10), abs=0.03)


def test_without_icons_it_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, tmp_path / "clips"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/nowhere"})
    assert done.returncode == 2 and "no Chromium was found" in done.stderr and not (tmp_path / "clips").exists()


def test_sprites_become_clips_of_units_and_verbs(tmp_path: Path) -> None:
    units = tmp_path / "game" / "images" / "units"
    names = ["drakes/fire-takeoff", "drakes/fire-fly", "human-magi/mage+female-se-magic-attack", "drakes/fire-portrait"]
    for name in names:
        for k in (1, 2, 3, 10):
            picture = Image.new("RGBA", (8, 6), (0, 0, 0, 0))
            picture.paste((25 * k, 0, 0, 255), (0, 0, 4, 6))
            (units / name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(units / f"{name}-{k}.png")
    command = [sys.executable, EXAMPLES / "sprites.py"]
    done = subprocess.run([*command, tmp_path / "game", tmp_path / "clips"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "3 clips with 3 captions" in done.stdout
    assert (tmp_path / "clips" / "list.csv").read_text().splitlines() == [
        "path,caption,group,unit,verb", "drakes-fire-fly.webp,drakes fire fly,drakes fire move,drakes fire,move",
        "drakes-fire-takeoff.webp,drakes fire takeoff,drakes fire move,drakes fire,move",
        "human-magi-mage+female-se-magic-attack.webp,human magi mage female magic attack,human magi mage attack,"
        "human magi mage,attack",
    ]  # fmt: skip
    film = Image.open(tmp_path / "clips" / "drakes-fire-fly.webp")
    shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    assert shown[0].shape == (8, 8, 3) and [frame[4, 0, 0] for frame in shown] == [25, 50, 75, 250]
    assert all((frame[:, 4:] == 255).all() and (frame[0] == 255).all() for frame in shown)
    empty = subprocess.run([*command, tmp_path / "clips", tmp_path / "none"], capture_output=True, text=True)
    assert empty.returncode == 2 and "no animated units were found" in empty.stderr and not (tmp_path / "none").exists()
