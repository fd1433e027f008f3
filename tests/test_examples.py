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

SCRIPT = Path(__file__).parents[1] / "examples" / "line_icons.py"
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
