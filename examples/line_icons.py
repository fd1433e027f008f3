"""Clips that nobody here drew: 1,231 animated line icons with names, for `t2v ingest`.

    python examples/line_icons.py clips                          fetch with npm, draw with Chromium: two minutes
    t2v ingest clips/list.csv data/icons --size 32 --validation 0.1
    t2v train data/icons --model diffusion
    t2v evaluate runs/icons-diffusion

The icons are "Material Line Icons" by Vjacheslav Trushkin (MIT), in the npm package @iconify-json/line-md; nothing of
them is kept here. Icon `account-add` becomes `account-add.webp`, 10 frames of its two seconds, with the caption
"account add" in `list.csv`. Names that differ in their style alone, `bell`, `bell-filled` and `bell-twotone-loop`, are
one group there: they stay together when clips are kept for validation.
"""

import argparse
import csv
import functools
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PACKAGE = "@iconify-json/line-md@1.2.16"
ACROSS, DOWN = 16, 16
"""Icons of one picture; larger pictures make Chromium slow."""
FRAMES, SECONDS = 10, 2.0
"""Of each clip, and of the animation in it: after one second only 35 % of them have ended, after two 96 %."""
FRAME_MS = 100
"""How long a frame is shown: twice as fast as it was drawn, since `t2v ingest` takes 10 frames a second."""
STYLES = ("filled", "twotone", "loop", "transition")
"""Words of names that say how an icon is drawn, not what it shows."""
PAGE = """<!doctype html><style>body {{ margin: 0; background: white; color: black; line-height: 0 }}
svg {{ width: {size}px; height: {size}px; float: left }}</style><body>{icons}<script>
for (const icon of document.querySelectorAll("svg")) {{ icon.pauseAnimations(); icon.setCurrentTime({second}) }}
</script>"""


def fetched(folder: Path) -> Path:
    """The package as npm brings it, a file in the folder."""
    done = subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"line_icons: npm could not fetch {PACKAGE}: {done.stderr.strip()}")
    return folder / done.stdout.split()[-1]


def icons_of(package: Path) -> dict[str, str]:
    """What is inside the SVG of each icon that moves, by name."""
    with tarfile.open(package) as files:
        member = files.extractfile("package/icons.json")
        assert member
        icons = json.load(member)["icons"]
    return {name: icon["body"] for name, icon in icons.items() if "<animate" in icon["body"]}


def drawn(bodies: Sequence[str], size: int, second: float, folder: Path, chromium: str) -> list[NDArray[np.uint8]]:
    """Each icon at a moment of its animation: `(size, size, 3)`."""
    icons = "".join(f'<svg viewBox="0 0 24 24">{body}</svg>' for body in bodies)
    page, picture = folder / "page.html", folder / "page.png"
    page.write_text(PAGE.format(size=size, icons=icons, second=second))
    window = f"--window-size={ACROSS * size},{DOWN * size}"
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder / 'own'}")
    command = [chromium, *options, window, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    whole = np.asarray(Image.open(picture).convert("RGB"))
    rows = whole.reshape(DOWN, size, ACROSS, size, 3).swapaxes(1, 2)
    return list(rows.reshape(-1, size, size, 3)[: len(bodies)])


def clips(icons: dict[str, str], size: int, chromium: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and clips `(t, size, size, 3)`."""
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(icons), ACROSS * DOWN):
            names = list(icons)[start : start + ACROSS * DOWN]
            draw = functools.partial(
                drawn, [icons[name] for name in names], size, folder=Path(folder), chromium=chromium
            )
            moments = [draw(second=SECONDS * k / (FRAMES - 1)) for k in range(FRAMES)]
            yield from zip(names, np.stack(moments, 1), strict=True)


def animated(clip: NDArray[np.uint8]) -> bytes:
    """A lossless WebP; equal frames become one that is shown longer, which `t2v ingest` undoes."""
    first, *rest = map(Image.fromarray, clip)
    content = io.BytesIO()
    first.save(content, "WEBP", save_all=True, append_images=rest, duration=FRAME_MS, lossless=True, loop=0)
    return content.getvalue()


def main() -> None:
    """Write clips and captions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for NAME.webp and list.csv")
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--package", type=Path, help="the package as npm pack writes it; fetched if left out")
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        parser.error("no Chromium was found, which draws the icons: install it (Debian: apt install chromium)")
    if asked.package is None and shutil.which("npm") is None:
        parser.error("no npm was found, which fetches the icons: install it, or give --package")
    with tempfile.TemporaryDirectory() as folder:
        icons = icons_of(asked.package or fetched(Path(folder)))
    asked.out.mkdir(parents=True, exist_ok=True)
    rows = [("path", "caption", "group")]
    for name, clip in clips(icons, asked.size, chromium):
        (asked.out / f"{name}.webp").write_bytes(animated(clip))
        words = name.split("-")
        rows.append((f"{name}.webp", " ".join(words), " ".join(word for word in words if word not in STYLES)))
    with (asked.out / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    print(f"{len(icons):,} clips; their captions are in {asked.out / 'list.csv'}")


if __name__ == "__main__":
    main()
