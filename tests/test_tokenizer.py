"""A clip as tokens and back: nothing looks ahead, codes are on their grid, and what is judged is the round trip."""

from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from t2v_models.batch import Batch, to_video
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.tokens.adversary import Adversary, Perceptual, adversary_loss
from t2v_models.families.tokens.grid import Grid
from t2v_models.families.tokens.quantise import Fsq, Lfq, Vq
from t2v_models.families.tokens.tokenizer import VideoTokenizer, VideoTokenizerConfig, median_colour
from t2v_models.families.tokens.usage import Usage
from t2v_models.generate import load_run
from t2v_models.judging.baselines import real
from t2v_models.sampler import Request, clips_of
from t2v_models.shards.export import to_npz
from t2v_models.shards.ingest import ingest
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from t2v_models.training.validation import watcher
from t2v_models.worlds.dataset import DatasetConfig
from tasks.subjects import subject
from tests.runs import SMALL, quiet, run_of, train
from tests.tiny import TINY, noise, put

WIDE = ClipSpec(frames=10, height=16, width=24)


def fresh(spec: ClipSpec, **settings: object) -> VideoTokenizer:
    torch.manual_seed(0)
    return VideoTokenizerConfig.tiny().model_copy(update=settings).with_captions(["circle"]).build(spec, {})


def clips(count: int, spec: ClipSpec) -> torch.Tensor:
    return torch.from_numpy(np.stack([noise(i, spec.frames, spec.height, spec.width) for i in range(count)]))


@pytest.mark.parametrize("encoder", ["local", "convolutional"])
@pytest.mark.parametrize("frames", [1, 4, 7, 10])
def test_tokens_and_pixels_of_the_first_frames_do_not_depend_on_later_ones(frames: int, encoder: str) -> None:
    model, video = fresh(WIDE, encoder=encoder), to_video(clips(2, WIDE))
    other = torch.cat([video[:, :, :frames], -video[:, :, frames:]], 2)
    whole, begun = model.tokens(video), model.tokens(video[:, :, :frames])
    assert begun.shape == (2, 1 + (frames - 1) // 3, 2, 3)
    slots = begun.shape[1]
    assert torch.equal(whole[:, :slots], begun) and torch.equal(model.tokens(other)[:, :slots], begun)
    assert frames == 10 or not torch.equal(model.tokens(other), whole)
    seen = model.video(whole, 10)[:, :, :frames]
    torch.testing.assert_close(model.video(begun, frames), seen, rtol=0, atol=1e-5)
    assert torch.equal(model.video(torch.cat([begun, (whole + 1)[:, slots:] % 40], 1), 10)[:, :, :frames], seen)


@pytest.mark.parametrize("encoder", ["local", "convolutional"])
def test_tokens_of_a_slot_are_of_its_frames_alone(encoder: str) -> None:
    """So that a slot may be known where those before it are not."""
    model, video = fresh(WIDE, encoder=encoder), to_video(clips(2, WIDE))
    for frame in range(10):
        same = model.grid.beside(frame, 10)
        known = torch.tensor([[other in same for other in range(10)]])
        slot = model.grid.whole(known)[0]
        assert slot.sum() == 1
        other = torch.where(known[:, None, :, None, None], video, -video)
        assert torch.equal(model.tokens(other)[:, slot], model.tokens(video)[:, slot])
    assert not model.grid.whole(torch.arange(10)[None] == 9).any()
    assert model.grid.whole(torch.arange(9)[None] > 6)[0].tolist() == [False, False, False, True], "held to its end"


def test_a_local_encoder_sees_its_own_patch_alone_and_a_convolutional_one_those_next_to_it() -> None:
    for encoder, changed in (("local", 1), ("convolutional", 4)):
        model, video = fresh(WIDE, encoder=encoder), to_video(clips(1, WIDE))
        other = video.clone()
        other[..., :8, :8] *= -1  # of 2 x 3 patches the first
        numbers = [model.autoencoder.encoder.layers(unshuffled(model, one)) for one in (video, other)]
        assert (numbers[0] != numbers[1]).any(1)[0].sum() == changed


def unshuffled(model: VideoTokenizer, video: torch.Tensor) -> torch.Tensor:
    return F.pixel_unshuffle(model.grid.pictures(video).flatten(0, 1), model.grid.patch)


def test_it_learns_from_clips_of_several_lengths_and_of_one_frame_size(tmp_path: Path) -> None:
    specs = [ClipSpec(size=16, frames=frames) for frames in (5, 10)]
    for number in range(8):
        put(tmp_path, f"films/{number}.npz", to_npz(noise(number, 5 + 5 * (number % 2)), 10))
    ingest(tmp_path / "films", tmp_path / "data", IngestOptions(shapes=tuple(specs), validation=0))
    store, run = ClipStore(Manifest.load(tmp_path / "data")), run_of(tmp_path / "data", SMALL["video_tokenizer"])
    assert len(store.shapes) == 2
    config = TrainConfig(steps=3, probe_seconds=0)
    fit(run, store, config, tmp_path / "run", quiet, watcher(run, store, tmp_path / "run"))
    for frames in (1, 5, 10):
        clip = np.zeros((1, frames, 16, 16, 3), np.uint8)
        assert load_run(tmp_path / "run").round_trip(clip).shape == clip.shape
    with pytest.raises(
        LabError, match="one frame size and the dataset has 16x16x5, 16x16x10, 24x16x5: .* several lengths"
    ):
        VideoTokenizerConfig().for_shapes([*specs, ClipSpec(height=16, width=24, frames=5)])


@pytest.mark.parametrize("frames", [1, 2, 5, 9])
def test_clips_of_any_length_and_pictures_make_the_round_trip(frames: int) -> None:
    model, frames_ = fresh(WIDE), clips(2, WIDE).numpy()[:, :frames]
    assert model.round_trip(frames_).shape == frames_.shape
    grid = Grid(slot=3, patch=8, rows=2, columns=3)
    video = to_video(frames_)
    assert torch.equal(grid.video(grid.pictures(video), frames), video)


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (4, 3), (2,), (7, 6)])
def test_every_token_is_a_code_that_numbers_can_meet(levels: tuple[int, ...]) -> None:
    fsq = Fsq(levels)
    tokens = torch.arange(fsq.vocabulary)
    codes = fsq.codes(tokens)
    assert torch.equal(fsq.tokens(codes), tokens) and codes.abs().max() <= 1
    spread = fsq(torch.linspace(-9, 9, 4001)[:, None].expand(-1, len(levels)))
    for count, numbers in zip(levels, spread.T, strict=True):
        assert len(numbers.unique()) == count
        assert all(b >= a for a, b in pairwise(numbers.tolist()))


def test_rounding_lets_gradients_pass() -> None:
    numbers = torch.zeros(1, 2, requires_grad=True)
    Fsq((5, 4))(numbers).sum().backward()
    assert numbers.grad is not None and (numbers.grad > 0.5).all()


QUANTISERS: dict[str, dict[str, object]] = {
    "fsq": {"levels": (4, 3)}, "lfq": {"quantiser": "lfq", "codes": 16}, "vq": {"quantiser": "vq", "codes": 12}
}  # fmt: skip


@pytest.mark.parametrize("kind", QUANTISERS)
def test_every_quantiser_has_as_many_codes_as_tokens_and_learns(kind: str) -> None:
    model = fresh(WIDE, **QUANTISERS[kind])
    quantiser = model.quantiser
    every = torch.arange(quantiser.vocabulary)
    codes = quantiser.codes(every)
    assert quantiser.vocabulary == {"fsq": 12, "lfq": 16, "vq": 12}[kind] and codes.shape[1] == quantiser.width
    assert torch.equal(quantiser.tokens(codes), every) and len(codes.unique(dim=0)) == len(every)
    assert torch.equal(quantiser(codes), codes) or kind == "fsq", "a code is its own nearest"
    before = {name: weight.clone() for name, weight in model.autoencoder.named_parameters()}
    metrics = model.training_step(Batch(clips(4, WIDE), ("circle",) * 4), 0, 0.0)
    assert {"codes/used", "codes/perplexity", "codes/bits_per_clip"} <= metrics.keys()
    assert not any(torch.equal(weight, before[name]) for name, weight in model.autoencoder.named_parameters())
    tokens = model.tokens(to_video(clips(2, WIDE)))
    assert tokens.shape == (2, 4, 2, 3) and tokens.max() < quantiser.vocabulary


def test_signs_pay_for_being_unsure_and_for_being_what_all_are() -> None:
    lfq = Lfq(4)
    counts = torch.tensor([0.0, 96.0, 0.0, 0.0])  # the first sign is plus, the second minus
    numbers = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [0.1, -0.1]], requires_grad=True)
    common, rare, unsure = lfq.cost(numbers, counts)
    assert rare < common
    even = lfq.cost(numbers, torch.full((4,), 24.0))
    assert even[0] == even[1] < even[2] and unsure > rare
    (gradient,) = torch.autograd.grad(even.sum(), numbers)
    assert gradient[2, 0] < 0 < gradient[2, 1], "away from 0"


def test_a_codebook_pays_for_its_distance_and_moves_as_a_whole() -> None:
    torch.manual_seed(0)
    vq = Vq(8, 3)
    numbers = (vq.codes(torch.tensor([2, 2])) + torch.tensor([[0.0], [0.3]])).detach().requires_grad_()
    assert vq.tokens(numbers).tolist() == [2, 2]
    cost = vq.cost(numbers, torch.zeros(8))
    assert cost.tolist() == pytest.approx([0, 1.25 * 0.3**2], abs=1e-6)
    to_numbers, to_map = torch.autograd.grad(cost.sum(), [numbers, vq.turn.weight])
    assert (to_numbers[1] > 0).all() and to_map.any()
    (passed,) = torch.autograd.grad(vq(numbers).sum(), numbers)
    assert (passed == 1).all()


def test_codes_that_signs_cannot_make_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="signs of numbers make 2, 4, 8, … codes, not 1000: use codes 1024"):
        VideoTokenizerConfig(quantiser="lfq", codes=1000)


def test_codes_in_use_are_counted() -> None:
    usage = Usage(100)
    usage.note(torch.tensor([[3, 5], [7, 9]]))
    usage.remember()
    found = usage.figures(tokens=10)
    assert [float(found[f"codes/{name}"]) for name in ("used", "perplexity", "bits_per_clip")] == pytest.approx(
        [0.04, 4, 20], rel=1e-5
    )


@pytest.mark.parametrize("ground", [0, 90, 255])
def test_what_is_unlike_the_median_colour_counts_more_whatever_that_is(ground: int) -> None:
    frames = torch.full((4, 4, 16, 16, 3), ground, dtype=torch.uint8)
    frames[:, :, 2:6, 2:6] = 255 - ground
    assert ((median_colour(frames) + 1) * 127.5).tolist() == pytest.approx([ground] * 3)
    model = fresh(ClipSpec(size=16, frames=4))
    model.training_step(Batch(frames, ("circle",) * 4), 0, 0.0)
    weight = model._weight(model._unlike(to_video(frames)))[0, 0, 0]
    assert weight[3, 3] > 2 and weight[12, 12] == pytest.approx(1)


def test_in_the_end_only_the_decoder_learns() -> None:
    model, batch = fresh(WIDE), Batch(clips(4, WIDE), ("circle",) * 4)
    model.training_step(batch, 0, 0.0)
    before = {name: weight.clone() for name, weight in model.autoencoder.named_parameters()}
    assert "loss/decoder" in model.training_step(batch, 1, 0.7)
    for name, weight in model.autoencoder.named_parameters():
        assert torch.equal(weight, before[name]) == name.startswith("encoder"), name


def test_a_batch_is_learnt_by_heart() -> None:
    data = DatasetConfig(spec=ClipSpec(size=16, frames=4))
    frames = real(data, data.prompts[:4], range(4))
    wide = {"levels": (8, 5, 5, 5), "encoder_width": 32, "decoder_width": 32, "fine_width": 16}
    pixels = {"perceptual": 0.0, "frame_adversary": 0.0, "clip_adversary": 0.0}
    model = fresh(data.spec, decoder_alone=0.0, ema_power=1.0, **wide, **pixels)
    errors = [
        float(model.training_step(Batch(torch.from_numpy(frames), ("circle",) * 4), step, step / 200)["error"])
        for step in range(200)
    ]
    assert errors[-1] < errors[0] / 40
    assert np.abs(model.round_trip(frames).astype(int) - frames).mean() < 6


@pytest.mark.parametrize(
    ("spec", "patch", "sentence"),
    [
        (
            ClipSpec(height=62, width=34),
            8,
            "62 px a side|34 x 62 px .* of patches of 8 px .* use clips of 32x64 px, .*=2$",
        ),
        (ClipSpec(size=17), 4, "17 x 17 px .* use clips of 16 px, or --set patch=1$"),
    ],
)
def test_frames_that_are_not_made_of_patches_are_one_sentence(spec: ClipSpec, patch: int, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        fresh(spec, patch=patch)


def test_the_largest_patch_that_fits_is_taken_and_told() -> None:
    assert "4 slots of 3 x 6 patches of 6 px" in VideoTokenizerConfig().plan(ClipSpec(height=18, width=36))


def test_levels_that_make_no_codes_are_refused() -> None:
    for levels, sentence in (((8, 1), "2 to 1024 levels"), ((99, 99, 99), "more than 65,536 codes")):
        with pytest.raises(ValueError, match=sentence):
            VideoTokenizerConfig(levels=levels)


def test_it_makes_no_clip_of_a_prompt_and_is_judged_by_what_becomes_of_real_ones(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path, 1, "video_tokenizer")
    who = subject(tmp_path)
    prompts, seeds = TINY.prompts[:2], [3, 4]
    again = who.sample(prompts, seeds)
    assert again.shape == (2, *TINY.spec.shape) and not np.array_equal(again, real(TINY, prompts, seeds))
    model = fresh(TINY.spec)
    with pytest.raises(LabError, match="video_tokenizer makes no clips of prompts: judge by 't2v evaluate RUN'"):
        model.check(Request((prompts[0],), (0,)))
    assert np.array_equal(
        clips_of(model, partial(real, TINY))(prompts, seeds), model.round_trip(real(TINY, prompts, seeds))
    )


def test_features_that_nothing_taught_see_blur_and_are_the_same_in_every_run() -> None:
    real = to_video(clips(3, WIDE))
    blurred = torch.nn.functional.avg_pool3d(real, (1, 3, 3), 1, (0, 1, 1))
    little = 0.9 * real + 0.1 * blurred
    distances = [Perceptual()(made, real) for made in (real, little, blurred)]
    assert not distances[0].any() and (distances[0] < distances[1]).all() and (distances[1] < distances[2]).all()
    assert torch.equal(Perceptual()(blurred, real), distances[2])


@pytest.mark.parametrize("sees_clips", [False, True])
def test_an_adversary_learns_what_it_can_see(sees_clips: bool) -> None:
    """Clips of which every other frame is black: one that sees frames alone could not tell which way round."""
    torch.manual_seed(0)
    adversary = Adversary(4, sees_clips)
    optimizer = torch.optim.AdamW(adversary.parameters(), 0.01)
    light = torch.ones(8, 3, 4, 16, 16)
    flickering = light * torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 4, 1, 1)
    real = torch.cat([light * 0, light])  # frames of both kinds, never in one clip
    made = torch.cat([flickering, 1 - flickering])
    for _ in range(60):
        optimizer.zero_grad()
        loss = adversary_loss("it", adversary, made, real)
        (loss.total / loss.count).backward()
        optimizer.step()
    assert (float(loss.figures["it/right"] / loss.count) > 0.9) == sees_clips


def test_what_adversaries_say_reaches_the_decoder_and_only_from_their_time_on() -> None:
    def step(progress: float, **settings: object) -> dict[str, torch.Tensor]:
        model = fresh(WIDE, perceptual=0.0, adversary_from=0.5, **settings)
        torch.manual_seed(0)
        metrics = model.training_step(Batch(clips(4, WIDE), ("circle",) * 4), 0, progress)
        return {"moved": torch.cat([p.flatten() for p in model.decoder.parameters()]), **metrics}

    none = step(0.6, frame_adversary=0.0, clip_adversary=0.0)
    for settings in ({"frame_adversary": 1.0, "clip_adversary": 0.0}, {"frame_adversary": 0.0, "clip_adversary": 1.0}):
        assert not torch.equal(step(0.6, **settings)["moved"], none["moved"])
        early = step(0.4, **settings)
        assert not any("adversary" in name for name in early)
