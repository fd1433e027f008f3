"""Words never trained, understood as trained ones through the files of WordNet; here a WordNet of a few words."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2v_models.clips.media import load_npz, save_clips
from t2v_models.config import LabError
from t2v_models.sampler import sample_frames
from t2v_models.text.wordnet import WordNet, understood_as
from t2v_models.worlds.dataset import DatasetConfig
from tasks.play import Player, show
from tasks.samplers import source
from tasks.subjects import Subject, taken
from tests.commands import t2v
from tests.runs import SMALL, train
from tests.tiny import SPEC

KNOWN = ("circle", "left", "moving", "red", "the")
NAMES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
SETS: list[tuple[str, str, Sequence[str], Sequence[tuple[str, str]]]] = [
    ("shape", "n", ["shape"], []),
    ("circle", "n", ["circle"], [("@", "shape")]),
    ("disc", "n", ["disc", "disk", "saucer"], [("@", "circle")]),
    ("frisbee", "n", ["frisbee"], [("@", "disc")]),
    ("make", "n", ["Wham-O"], [("@i", "frisbee")]),
    ("thing", "n", ["object"], []),
    ("travel", "v", ["travel", "move"], []),
    ("glide", "v", ["glide"], [("@", "travel")]),
    ("leave", "v", ["leave"], []),
    ("depart", "v", ["depart"], [("@", "leave")]),
    ("chromatic", "a", ["chromatic"], [("&", "red"), ("&", "indigo")]),
    ("red", "s", ["red(a)", "scarlet"], [("&", "chromatic")]),
    ("indigo", "s", ["indigo"], [("&", "chromatic")]),
    ("left", "r", ["left"], []),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of words, the more general ones first, in files as WordNet 3.0 has them."""
    folder = tmp_path_factory.mktemp("wordnet")
    for pos, name in NAMES.items():
        here = [s for s in SETS if s[1].replace("s", "a") == pos]
        lines = {key: _line(kind, lemmas, len(pointers)) for key, kind, lemmas, pointers in here}
        starts, start = {}, 2
        for key, _, _, pointers in here:
            starts[key] = start
            start += len(lines[key]) + sum(len(f"{p} 00000000 {pos} 0000 ") for p, _ in pointers) + 8 + len("| gloss\n")
        content = "  "
        for key, _, _, pointers in here:
            above = "".join(f"{pointer} {starts[to]:08d} {pos} 0000 " for pointer, to in pointers)
            content += f"{starts[key]:08d}{lines[key]}{above}| gloss\n"
        (folder / f"data.{name}").write_text(content)
        index = [f"{lemma.partition('(')[0].lower()} {pos} 1 0 1 0 {starts[key]:08d}  \n"
                 for key, _, lemmas, _ in here for lemma in lemmas]  # fmt: skip
        (folder / f"index.{name}").write_text("  \n" + "".join(sorted(index)))
        (folder / f"{name}.exc").write_text({"v": "left leave\n", "n": "discuses disc\n"}.get(pos, ""))
    return folder


def _line(kind: str, lemmas: Sequence[str], pointers: int) -> str:
    """Of a data file, from behind its number to its pointers."""
    told = "".join(f"{lemma} 0 " for lemma in lemmas)
    return f" 00 {kind} {len(lemmas):02x} {told}{pointers:03d} "


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("disk", "circle"), ("discs", "circle"), ("discuses", "circle"),  # a kind of it, in any form
        ("frisbee", "circle"), ("wham-o", ""),  # two steps, three
        ("travelling", "moving"), ("gliding", "moving"), ("glides", "moving"),
        ("scarlet", "red"), ("indigo", ""), ("chromatic", ""),  # red is no kind of either
        ("departing", ""),  # "left" is that word, no form of leave
        ("object", ""), ("leftward", ""),
    ],
)  # fmt: skip
def test_a_word_is_understood_as_the_trained_one_it_is_a_kind_of(folder: Path, word: str, meant: str) -> None:
    assert WordNet(folder).nearest(word, KNOWN) == meant


def test_a_prompt_is_told_in_known_words_or_refused(folder: Path) -> None:
    wordnet = WordNet(folder)
    assert wordnet.understood("The Disk, gliding left!", KNOWN) == "the circle moving left"
    assert wordnet.understood("the circle: left!", KNOWN) == "the circle: left!"
    assert wordnet.understood("whatever you like", ()) == "whatever you like"  # an open vocabulary
    with pytest.raises(LabError, match="word 'indigo' of prompt 'indigo circle', nor on one that it is a kind of"):
        wordnet.understood("indigo circle", KNOWN)
    assert understood_as({"a disk": "a circle", "red": "red"}) == ["'a disk' understood as 'a circle'"]


def test_without_its_files_it_says_how_to_get_them(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"data\.noun cannot be read and is part of WordNet: .*wordnet-base"):
        WordNet(tmp_path)
    for name in NAMES.values():
        for file in (f"data.{name}", f"index.{name}", f"{name}.exc"):
            (tmp_path / file).write_bytes(b"")
    with pytest.raises(LabError, match=r"are not those of WordNet 3\.0"):
        WordNet(tmp_path)


def test_what_is_judged_is_asked_in_known_words_and_recorded(folder: Path) -> None:
    model = SMALL["gan"].with_captions(["circle moving left"]).build(SPEC, {})
    who = Subject("gan", "", 0, DatasetConfig(spec=SPEC), partial(sample_frames, model), sampler=model,
                  vocabulary=model.text.vocabulary, wordnet=WordNet(folder))  # fmt: skip
    asked, refused = taken(who, {"s7": (["disk gliding left", "disk sinking"], [0, 1])})
    assert asked == {"s7": (["disk gliding left"], [0])} and refused["s7"].asked == 2
    assert who.understood("disk gliding left") == "circle moving left"


def test_the_commands_tell_what_they_understood(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(data, tmp_path / "run", 1)
    out, asked = tmp_path / "clips.npz", "disk gliding left"
    t2v("generate", tmp_path / "run", asked, "--count", 1, "--out", out, "--wordnet", folder, "--json")
    said, *_, told = capsys.readouterr().out.splitlines()
    assert said == "'disk gliding left' understood as 'circle moving left'"
    assert json.loads(told)["understood"] == ["circle moving left"]
    player = Player("gan", source(tmp_path / "run"))
    page = show([player], asked, 0, 1, WordNet(folder))
    assert "understood as &#x27;circle moving left&#x27;" in page and "1 right" in page.replace(
        "0 of 1 right", "1 right"
    )
    with pytest.raises(LabError, match="not trained on the word 'disk'"):
        show([player], asked, 0, 1)


def test_clips_keep_what_their_prompt_was_understood_as(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(256, size=(2, 3, 16, 16, 3), dtype=np.uint8)
    said, meant = ["disk left", "circle left"], ["circle left", "circle left"]
    for suffix in (".npz", ".gif", ".webp", ".mp4", ".png"):
        save_clips(tmp_path / f"a{suffix}", frames, said, [0, 1], 10, meant)
        save_clips(tmp_path / f"b{suffix}", frames, meant, [0, 1], 10, meant)
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["understood"].tolist() == meant
    assert load_npz(tmp_path / "a.npz")[1] == said
    told = "disk left, understood as circle left"
    with Image.open(tmp_path / "a-000.gif") as gif, Image.open(tmp_path / "a-000.webp") as webp:
        assert gif.info["comment"].decode() == told and webp.getexif()[0x010E] == told
    assert told.encode() in (tmp_path / "a-000.mp4").read_bytes()
    assert (tmp_path / "a-001.gif").read_bytes() == (tmp_path / "b-001.gif").read_bytes()  # nothing to tell
