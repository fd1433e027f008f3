"""Patterns behind objects of any world: how they look, that they come off again, that clips on them are read."""

from pathlib import Path

import numpy as np
import pytest

from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.judging.baselines import BASELINES
from t2v_models.judging.real_cache import deciding_files
from t2v_models.shards.manifest import Manifest
from t2v_models.worlds.appearance import PALETTE
from t2v_models.worlds.dataset import DatasetConfig, draw_clips
from t2v_models.worlds.listed import WORLDS
from t2v_models.worlds.on_background import NAMES, OPTIONS, Option
from t2v_models.worlds.textures import KINDS, Background, behind, kind_of, moved, taken_off, texture
from t2v_models.worlds.world import Frames, drawn
from tests.tiny import rendered

PATTERNS = KINDS[1:]
WIDE = ClipSpec(height=32, width=48, frames=8)


def data(world: str, background: Option, *, drifting: bool = False, named: bool = False, size: int = 32):
    spec = ClipSpec(size=size, frames=WORLDS[world].frames)
    return DatasetConfig(
        world=world, background=background, drifting=drifting, background_named=named, spec=spec, clips=10_000
    )


def clips(config: DatasetConfig, count: int) -> tuple[Frames, list[str], list[Background]]:
    made = [draw_clips(config, range(i, i + 1))[0] for i in range(0, 31 * count, 31)]
    frames = drawn(config.rules, [scene for _, scene in made], config.spec)
    return frames, [caption for caption, _ in made], [scene.objects[0] for _, scene in made]  # type: ignore[misc]


def background(kind: str, way: int = 0, drift: tuple[int, int] = (0, 0)) -> Background:
    return Background(kind=kind, colours=(1, 3), way=way, count=3, phase=(0.3, 0.6), drift=drift, seed=5)  # type: ignore[arg-type]


def share(flags: list[bool]) -> float:
    return float(np.mean(flags))


@pytest.mark.parametrize("drifting", [False, True])
@pytest.mark.parametrize("world", [*WORLDS])
def test_real_clips_are_right_on_each_background(world: str, drifting: bool) -> None:
    for kind in PATTERNS:
        config = data(world, kind, drifting=drifting)  # type: ignore[arg-type]
        frames, captions, behind_them = clips(config, 16)
        found = config.rules.read(frames, [config.rules.parse(caption) for caption in captions])
        assert share([r.success for r in found]) >= 0.93, [r.fault for r in found if r.fault]  # at most one of 16
        assert {b.drift == (0, 0) for b in behind_them} == {not drifting}
        assert [taken_off(clip, drifting=drifting)[1] for clip in frames] == [kind] * 16


@pytest.mark.parametrize("drifting", [False, True])
@pytest.mark.parametrize("world", [*WORLDS])
def test_real_clips_are_right_on_all_backgrounds_at_64_px(world: str, drifting: bool) -> None:
    """Few of each kind; `benchmarks/worlds.py --only backgrounds` has hundreds."""
    config = data(world, "mixed", drifting=drifting, size=64)
    frames, captions, behind_them = clips(config, 24)
    assert {b.kind for b in behind_them} >= {*PATTERNS}
    found = config.rules.read(frames, [config.rules.parse(caption) for caption in captions])
    assert share([r.success for r in found]) >= 0.95, [r.fault for r in found if r.fault]  # at most one of 24


@pytest.mark.parametrize("way", [0, 1, 2])
@pytest.mark.parametrize("kind", PATTERNS)
def test_a_pattern_looks_as_it_is_called_and_repeats_at_the_edges(kind: str, way: int) -> None:
    (still,) = texture(background(kind, way), WIDE)
    assert still.shape == (32, 48, 3) and still.min() >= 0 and 20 < still.max() <= 62
    assert kind_of(still, np.ones((32, 48), bool)) == kind
    drifting = texture(background(kind, way, (1, -1)), WIDE)
    assert np.array_equal(drifting[0], still) and np.array_equal(drifting[3], moved(still, (1, -1), 3))
    assert not np.array_equal(drifting[1], still)


@pytest.mark.parametrize("sides", [(36, 64), (64, 36), (48, 64), (63, 65), (32, 32), (48, 48)])
def test_a_pattern_looks_as_it_is_called_whatever_its_phase_and_the_form_of_the_frame(sides: tuple[int, int]) -> None:
    spec, numbers = ClipSpec(height=sides[0], width=sides[1], frames=1), np.random.default_rng(0)
    for kind in PATTERNS:
        for k in range(30):
            drawn = background(kind, way=k % 3).model_copy(
                update={"count": 2 + k % 4 % 3, "phase": tuple(numbers.random(2)), "seed": k}
            )
            assert kind_of(texture(drawn, spec)[0], np.ones(sides, bool)) == kind, drawn


def test_it_lies_behind_the_objects_and_comes_off_again() -> None:
    frames = clips(data("shapes", "plain"), 12)[0]
    for k, clip in enumerate(frames):
        on = clip.copy()
        behind(on, texture(background(PATTERNS[k % 4]), data("shapes", "plain").spec))
        inks = np.array([*PALETTE.values()])
        core = (clip[..., None, :] == inks).all(-1).any(-1)
        assert core.any() and np.array_equal(on[core], clip[core]), "nothing shows through"
        assert np.abs(on.astype(int) - clip).max() > 20
        off = np.abs(taken_off(on, drifting=False)[0].astype(int) - clip).max(-1)
        assert np.quantile(off, 0.99) <= 3  # but where an object hides it in all frames


@pytest.mark.parametrize("drifting", [False, True])
def test_noisy_clips_are_still_read_and_their_pattern_named(drifting: bool) -> None:
    config = data("shapes", "stripes", drifting=drifting, size=64)
    frames, captions, _ = clips(config, 30)
    asked, rng = [config.rules.parse(caption) for caption in captions], np.random.default_rng(0)
    for level, least in ((0.03, 0.99), (0.05, 0.8)):
        noisy = np.clip(np.rint(frames + rng.normal(0, 255 * level, frames.shape)), 0, 255).astype(np.uint8)
        found = config.rules.read(noisy, asked)
        assert share([r.success for r in found]) >= least, [r.fault for r in found if r.fault]
        assert share([taken_off(clip, drifting=drifting)[1] == "stripes" for clip in noisy]) >= least


def test_captions_name_the_background_on_request() -> None:
    config = data("stories", "mixed", named=True)
    world, plain = config.rules, data("stories", "plain")
    assert len(config.prompts) == len(KINDS) * len(plain.prompts)
    for split in ("s0", "s1", "s2", "s3", "s6"):
        asked = config.asked(split)  # type: ignore[arg-type]
        assert {config.split_of(prompt) for prompt in asked} == {split} and len(asked) > 40
        assert {p.split()[-2] for p in asked} == {*NAMES.values()}
    world.check_no_leak(config, config.prompts)
    with pytest.raises(LabError, match="held out"):
        world.check_no_leak(config, config.asked("s2"))
    frames, captions, shown = clips(config, 24)
    assert all(caption.endswith(f"on a {NAMES[b.kind]} background") for caption, b in zip(captions, shown, strict=True))
    right = world.read(frames, [world.parse(caption) for caption in captions])
    assert share([r.success for r in right]) >= 0.95
    others = [
        caption.replace(NAMES[b.kind], NAMES[KINDS[KINDS.index(b.kind) - 1]])
        for caption, b in zip(captions, shown, strict=True)
    ]
    wrong = world.read(frames, [world.parse(caption) for caption in others])
    assert all(r.right and not r.success and r.fault.startswith("the background is ") for r in wrong)
    one = "circle moving up then moving left on a striped background"
    for said in (one.replace(" on a", "  ON\ta "), one.replace(" on", ", on") + ".", one.replace(" ", "\n")):
        assert world.parse(said) == world.parse(one) and config.split_of(said) == "s2"
    with pytest.raises(LabError, match="does not end with its background: say 'on a plain background' or"):
        world.parse("circle moving up then moving left")
    with pytest.raises(LabError, match="does not end with its background: say 'on a striped background'"):
        data("circles", "stripes", named=True).split_of("circle moving up on a cloudy background")


@pytest.mark.parametrize("kind", ["blank", "noise", "frozen"])
def test_what_is_no_such_clip_is_not_right(kind: str) -> None:
    config = data("shapes", "mixed", drifting=True)
    prompts = [p for p in config.asked("s0") if "ing" in p][:20]
    frames = BASELINES[kind](config, prompts, range(20))
    assert not any(r.success for r in config.rules.read(frames, [config.rules.parse(p) for p in prompts]))


def test_datasets_without_one_are_as_they_were_and_others_are_functions_of_their_number(tmp_path: Path) -> None:
    assert "background" not in DatasetConfig().model_dump_json() and "drifting" not in DatasetConfig().model_dump_json()
    assert data("pairs", "plain").rules is WORLDS["pairs"]
    config = data("pairs", "mixed", drifting=True).model_copy(update={"clips": 8})
    made = draw_clips(config, range(8))
    assert [draw_clips(config, range(i, i + 1))[0] for i in range(4, 8)] == made[4:]
    truth = Manifest.load(rendered(tmp_path / "data", config)).table["truth"].to_pylist()
    assert all(told.startswith('[{"kind":"') and told.count('"action"') == 2 for told in truth)
    (stored,) = config.rules.stored([made[0][1]], config.spec)
    assert stored["background"]["kind"] in KINDS and len(stored["objects"]) == 2
    assert {path.name for path in deciding_files(config.rules)} > {"textures.py", "pairs.py", "layers.py"}


def test_what_does_not_go_together_is_refused() -> None:
    for wish in ({"drifting": True}, {"background_named": True}):
        with pytest.raises(LabError, match=f"a plain background cannot .*: choose one of {', '.join(OPTIONS[1:])}"):
            DatasetConfig.model_validate(wish)
    with pytest.raises(LabError, match="stories of 60 frames"):
        DatasetConfig(world="stories", background="stripes", spec=ClipSpec(frames=60))
