"""What a training says before it begins of what nobody chose by hand."""

from pathlib import Path

import pytest
import torch

from flows.cli.main import _what_next
from t2v_models.families.build import FAMILIES
from t2v_models.fresh import new_run
from t2v_models.sampler import Request
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.training.config import TrainConfig
from t2v_models.training.launch import here
from tasks.train import plan, unheard
from tests.owned import owned
from tests.runs import SMALL, built
from tests.tiny import SPEC


def test_auto_is_bfloat16_where_the_machine_has_it_and_the_family_gains(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, manifest = TrainConfig(steps=1, device="cpu", precision="auto"), Manifest.load(data)
    diffusion, gan = (FAMILIES[name].tiny() for name in ("diffusion", "gan"))
    for has, found, why in (
        (True, "bfloat16", "which this machine is fast in"),
        (False, "float32", "for it is slow in"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"amx_bf16": has})
        assert here(wanted, diffusion).precision == found
        assert f"1 process, {found}, {why}" in plan(manifest, diffusion, wanted)
        assert here(wanted, gan).precision == "float32"
        exact = TrainConfig(steps=1, precision="float32")
        assert here(exact, diffusion) is exact


def test_after_a_training_nobody_is_sent_to_a_judge_that_refuses(data: Path, tmp_path: Path) -> None:
    alike = owned(tmp_path, 104, 0.1, ["a thing moves"] * 104)
    for folder, judged in ((data, True), (alike, False)):
        store, model = ClipStore(Manifest.load(folder)), FAMILIES["gan"].tiny()
        told = _what_next(new_run(store.manifest, model, 0), store, tmp_path / "run", tmp_path)
        assert "t2v generate" in told and ("t2v evaluate" in told) is judged
    assert "with 1 caption; gan" in plan(Manifest.load(alike), FAMILIES["gan"].tiny(), TrainConfig(steps=1))


ORDERS = ["red ball left of blue box", "blue box left of Red ball", "a red ball.", "A red ball", "up-right", "up right"]
"""Two that differ by the order of words alone, and four that do not differ to who hears words."""
BY_PLACES = "--set text_encoder.positions=6"


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("diffusion", {}, f"diffusion does not hear: a run with {BY_PLACES} --set cross_attention=true tells them"),
        ("diffusion", {"text_encoder": {"positions": 6}}, f"{BY_PLACES} --set cross_attention=true"),
        ("diffusion", {"cross_attention": True}, f"a run with {BY_PLACES} tells them apart"),
        ("diffusion", {"cross_attention": True, "text_encoder": {"positions": 6}}, None),
        ("image_model", {}, f"a run with {BY_PLACES} tells them apart"),
        ("ar_tokens", {}, f"a run with {BY_PLACES} tells them apart"),
        ("ar_tokens", {"text_encoder": {"positions": 2}}, None),
        ("ar_tokens", {"text_encoder": {"positions": 1}}, f"a run with {BY_PLACES} tells them apart"),
        ("gan", {}, "gan does not hear: a run with --set text_encoder=transformers:FOLDER tells them apart"),
        ("gan", {"text_encoder": {"name": "transformers"}}, None),
        ("modelscope", {}, None),
        ("video_tokenizer", {}, None),
    ],
)
def test_captions_that_differ_by_the_order_of_words_are_counted_where_it_is_not_heard(
    name: str, changes: dict[str, object], sentence: str | None
) -> None:
    model = type(SMALL[name]).model_validate(SMALL[name].model_dump() | changes)
    told = unheard(ORDERS, model)
    assert (
        told.startswith("2 captions have the same words as another in another order, which ") if sentence else not told
    )
    assert (sentence or "") in told
    assert unheard(["\n".join(ORDERS)] * 2, model) == told, "captions of one clip are captions"
    assert not unheard(ORDERS[1:], model) and not unheard(["0.1 -1", "-1 0.1"], model)


def test_what_is_said_not_to_be_heard_changes_no_clip() -> None:
    """And what is said to tell captions apart does."""
    for name, changes, apart in (
        ("gan", {}, False),
        ("diffusion", {}, False),
        ("diffusion", {"text_encoder": {"positions": 6}}, False),
        ("diffusion", {"cross_attention": True}, False),
        ("diffusion", {"cross_attention": True, "text_encoder": {"positions": 6}}, True),
        ("image_model", {}, False),
        ("image_model", {"text_encoder": {"positions": 6}}, True),
    ):
        torch.manual_seed(0)
        config = type(SMALL[name]).model_validate(SMALL[name].model_dump() | changes)
        model = built(config, SPEC, ORDERS)
        both, same = (model.make(Request(prompts, (0, 0))) for prompts in (tuple(ORDERS[:2]), (ORDERS[0],) * 2))
        rounding = max(1e-6, float((same[0] - same[1]).abs().max()))  # two rows of a batch are not summed alike
        assert (float((both[0] - both[1]).abs().max()) > 2 * rounding) == apart, (name, changes)
        assert bool(unheard(ORDERS, config)) != apart
