"""Clips that nobody here drew: some 600 animated sprites with units and verbs as names, for `t2v ingest`.

    apt-get download wesnoth-1.16-data           from Debian or Ubuntu, 146 MB; no need to be root
    dpkg -x wesnoth-1.16-data_*.deb wesnoth
    python examples/sprites.py wesnoth clips
    t2v ingest clips/list.csv data/sprites --size 64 --validation 0.1
    t2v train data/sprites --model diffusion
    t2v evaluate runs/sprites-diffusion

The sprites are those of the game "The Battle for Wesnoth" by its many artists (GPL-2 or later); nothing of them is kept
here. Pictures `horseman-se-run-1.png`, `-2`, ... become `human-loyalists-horseman-se-run.webp`, 10 frames of a second
on white, with the caption "human loyalists horseman run": a unit and what it does. Where it looks is not said, so many
captions have several clips. All clips in which one unit attacks, or moves, dies, idles, are one group in `list.csv`,
men and women alike: of what is kept for validation the verb was seen of other units, but never of this one. The columns
`unit` and `verb` are for `examples/verbs.py`, which judges by motion whether a clip shows the verb.
"""

import argparse
import csv
import io
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

FRAMES, FRAME_MS = 10, 100
LEAST = 3
"""Pictures of a clip; fewer do not move."""
LOOKS = {"n", "s", "ne", "nw", "se", "sw", "north", "south"}
VARIANTS = {"female"}
"""Words of a unit that has the same movements without them."""
VERBS = {
    "attack": "arms attack axe bite blade bow charge claws crossbow dagger fire flame halberd hammer impact javelin "
              "kick launch lightning mace magic melee pierce pincer pike punch ranged slash sling spear staff stinger "
              "sword tail taunt tentacle thorns throw trident whip",
    "die": "death die dying fall kill",
    "idle": "bob idle stand standing",
    "move": "flight fly flying hover inhale land move run soar swim takeoff teleport walk",
    "heal": "heal healing victory",
}  # fmt: skip
"""Words of names by the verb that they are: a weapon attacks."""
VERB_OF = {word: verb for verb, words in VERBS.items() for word in words.split()}


def sequences(folder: Path) -> dict[Path, list[Path]]:
    """Pictures of each animation in their order, by their common name."""
    numbered: dict[Path, dict[int, Path]] = defaultdict(dict)
    for path in folder.rglob("images/units/**/*.png"):
        if match := re.fullmatch(r"(.+?)-?(\d+)", path.stem):
            numbered[path.parent / match[1]][int(match[2])] = path
    return {name: [found[k] for k in sorted(found)] for name, found in sorted(numbered.items()) if len(found) >= LEAST}


def said_of(name: Path) -> tuple[str, str, str, str] | None:
    """Caption, group, unit and verb of a name; None where it has no verb. The first word is always of the unit."""
    words = [word for word in re.split(r"[-+_]", re.sub(r"\d+$", "", name.name)) if word not in LOOKS]
    at = next((i for i, word in enumerate(words) if i and word in VERB_OF), None)
    if at is None:
        return None
    parts = name.parts
    kin = parts[parts.index("units") + 1] if len(parts) > parts.index("units") + 2 else ""
    full, verb = [*kin.split("-"), *words[:at]], VERB_OF[words[at]]
    unit = " ".join(word for word in full if word not in VARIANTS).strip()
    return " ".join([*full, *words[at:]]).strip(), f"{unit} {verb}", unit, verb


def animated(pictures: Sequence[Path]) -> bytes:
    """A lossless WebP of `FRAMES` frames on white, square and as large as the largest picture."""
    opened = [Image.open(path).convert("RGBA") for path in pictures]
    side = max(max(picture.size) for picture in opened)
    frames = []
    for k in range(FRAMES):
        picture = opened[k * len(opened) // FRAMES]
        frame = Image.new("RGBA", (side, side), "white")
        frame.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        frames.append(frame.convert("RGB"))
    content = io.BytesIO()
    first, *rest = frames
    first.save(content, "WEBP", save_all=True, append_images=rest, duration=FRAME_MS, lossless=True, loop=0)
    return content.getvalue()


def main() -> None:
    """Write clips and captions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="folder into which the package was unpacked or installed")
    parser.add_argument("out", type=Path, help="folder for NAME.webp and list.csv")
    asked = parser.parse_args()
    found = {name: pictures for name, pictures in sequences(asked.package).items() if said_of(name)}
    if not found:
        parser.error(
            f"no animated units were found in {asked.package}: give the folder that 'dpkg -x' unpacked "
            "wesnoth-1.16-data into"
        )
    asked.out.mkdir(parents=True, exist_ok=True)
    rows = [("path", "caption", "group", "unit", "verb")]
    for name, pictures in found.items():
        units = name.parts.index("units")
        file = "-".join(dict.fromkeys([*name.parts[units + 1 : -1], name.name])) + ".webp"
        (asked.out / file).write_bytes(animated(pictures))
        rows.append((file, *(said_of(name) or ())))
    with (asked.out / "list.csv").open("w", newline="") as file_:
        csv.writer(file_).writerows(rows)
    captions = {row[1] for row in rows[1:]}
    print(f"{len(found):,} clips with {len(captions):,} captions, which are in {asked.out / 'list.csv'}")


if __name__ == "__main__":
    main()
