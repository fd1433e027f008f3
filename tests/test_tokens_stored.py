"""Tokens are stored once, learnt in place of pixels, and refused when their tokenizer has changed."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.cli.main import main
from t2v_models import checkpoint
from t2v_models.batch import to_video
from t2v_models.config import LabError
from t2v_models.families.tokens.tokenizer import VideoTokenizer
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.shards.stream import batches
from t2v_models.shards.tokens import TokenStore, place, write_tokens
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import fit
from tests.runs import SMALL, parent_of, quiet, run_of, tensors


def stored(data: Path) -> tuple[Path, ClipStore, VideoTokenizer, str]:
    """The tokens of a dataset by a small tokenizer beside it; what is there already is left alone."""
    run = parent_of(data, "video_tokenizer")
    model, last = checkpoint.load(run)
    assert isinstance(model, VideoTokenizer)
    store = ClipStore(Manifest.load(data))
    folder = place(run, store.manifest.digest)
    write_tokens(store, folder, last.sha256, model.tokenize, lambda done, total: None)
    return folder, store, model, last.sha256


def t2v_tokens(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["t2v", "tokens", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    """The dataset in a folder of its own, beside which a tokenizer may lie that no other test sees."""
    (tmp_path / "data").symlink_to(data)
    return tmp_path / "data"


def test_batches_of_stored_tokens_are_those_of_the_pixels(own: Path) -> None:
    folder, store, model, sha256 = stored(own)
    tokens = TokenStore(store.manifest, folder, [sha256])
    of_pixels = batches(store, 8, 2, seed=3, start=5, workers=0)
    of_tokens = batches(tokens, 8, 2, seed=3, start=5, workers=0)
    for _ in range(12):
        one, other = next(of_pixels), next(of_tokens)
        assert other.tokens is not None and other.frames.shape == (8, 0, 16, 16, 3)
        assert one.captions == other.captions and torch.equal(other.tokens, model.tokens(to_video(one.frames)))
        parts = other.parts(2, 2)
        assert torch.equal(torch.cat([part.tokens for part in parts if part.tokens is not None]), other.tokens)


def test_the_command_stores_what_a_training_takes(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, work = parent_of(own, "video_tokenizer"), ("--work", tmp_path / "work")
    assert t2v_tokens(own, run, *work, "--json", monkeypatch=monkeypatch) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    store, (model, last) = ClipStore(Manifest.load(own)), checkpoint.load(run)
    folder = place(run, store.manifest.digest)
    assert told == {"tokens": str(folder), "clips": 90, "shape": [3, 2, 2]}
    rows = np.arange(len(store))
    expected = model.tokenize(store.frames(rows))
    assert np.array_equal(TokenStore(store.manifest, folder, [last.sha256]).tokens(rows), expected)
    assert t2v_tokens(own, tmp_path / "none", *work, monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_training_takes_them_decodes_nothing_and_learns_the_same(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(out: Path) -> dict[str, torch.Tensor]:
        config = TrainConfig(steps=2, probe_seconds=0)
        fit(run_of(own, SMALL["phenaki"]), ClipStore(Manifest.load(own)), config, out, quiet)
        return tensors(out)

    before = train(tmp_path / "of-pixels")
    stored(own)
    monkeypatch.setattr(ClipStore, "frames", None)
    after = train(tmp_path / "of-tokens")
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_tokens_of_another_tokenizer_are_refused_and_made_anew(own: Path) -> None:
    folder, store, model, sha256 = stored(own)
    again = r"run 't2v tokens .*data.* .*data-video_tokenizer.*' again, or remove that folder$"
    with pytest.raises(LabError, match=f"of a tokenizer with other weights .{sha256[:12]}, now 0000.*{again}"):
        TokenStore(store.manifest, folder, ["0" * 64])
    write_tokens(store, folder, "0" * 64, lambda frames: 0 * model.tokenize(frames), lambda done, total: None)
    rows = np.arange(len(store))
    assert not TokenStore(store.manifest, folder, ["0" * 64]).tokens(rows).any()
    (folder / "tokens.json").unlink()
    with pytest.raises(LabError, match=f"holds no whole set of tokens of this dataset: {again}"):
        TokenStore(store.manifest, folder, [sha256])


def test_damaged_tokens_are_one_sentence(own: Path) -> None:
    folder, store, _, sha256 = stored(own)
    file = folder / "shard-00001.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        LabError, match="are damaged .their sha256 has changed.: remove that folder and run 't2v tokens"
    ):
        TokenStore(store.manifest, folder, [sha256])
    file.write_bytes(content[:40])
    with pytest.raises(LabError, match="cannot be read"):
        TokenStore(store.manifest, folder, [sha256])
