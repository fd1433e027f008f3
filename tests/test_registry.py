"""Champions: what the gate decides, by closed forms, and that the store follows it."""

import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2v_models import checkpoint
from t2v_models.checkpoint import RunConfig
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.gan.model import GanConfig
from t2v_models.judging.scores import SUITE_VERSION, EvaluateConfig, Evaluation
from t2v_models.judging.statistics import Score, newcombe, wilson
from t2v_models.leaderboard.gate import GateConfig, decide, figures_of
from t2v_models.worlds.dataset import DatasetConfig
from tasks.mlflow.registry import champion_of, fetch_model
from tasks.mlflow.store import client
from tasks.mlflow.tracking import track
from tasks.subjects import Subject, subject

N = 1152
CONFIG = GateConfig()


def figures(acc: float, **guarded: float) -> dict[str, Score]:
    """Shares of 1,152 clips; those not named are 0.9."""
    values = {"s0/valid": 0.9, "s0/worst_prompt_acc": 0.9, "s3/prompt_acc": 0.9} | guarded
    return {"s0/prompt_acc": wilson(round(acc * N), N)} | {k: wilson(round(v * N), N) for k, v in values.items()}


def spread(value: float) -> dict[str, Score]:
    return {"s0/std_ratio": Score(value=value, low=value - 0.05, high=value + 0.05, n=N)}


def test_a_first_model_must_beat_chance_unless_any_is_let_in():
    floor = {"s0/prompt_acc": wilson(9, 144)}
    assert decide(figures(0.5), None, floor, CONFIG).promoted
    dead = decide(figures(0.06), None, floor, CONFIG)
    assert not dead.promoted
    assert "not better than the baseline unconditional: s0/prompt_acc 6.0 % against 6.2 %" in dead.reason
    assert decide(figures(0.0), None, {}, GateConfig(floor=None)).promoted
    assert not decide(figures(0.5), None, {}, CONFIG).promoted, "a floor that was not measured is not beaten"


@pytest.mark.parametrize(
    ("new", "old", "promoted", "words"),
    [
        (figures(0.90), figures(0.80), True, "better: s0/prompt_acc 90.0 % against 80.0 %, difference 10.0"),
        (figures(0.80), figures(0.80), False, "not better beyond the interval: .* difference 0.0"),
        (figures(0.81), figures(0.80), False, "not better beyond the interval"),
        (figures(0.70), figures(0.80), False, "not better beyond the interval"),
        (figures(0.90, **{"s3/prompt_acc": 0.5}), figures(0.80), False, "but worse: s3/prompt_acc 50.0 % against 90.0"),
        (figures(0.90, **{"s3/prompt_acc": 0.89}), figures(0.80), True, "none of 3 guarded figures is worse"),
        (figures(0.90) | spread(0.2), figures(0.80) | spread(0.9), False, r"worse: s0/std_ratio 0\.200 against 0\.900"),
        (figures(0.90) | spread(0.95), figures(0.80) | spread(0.9), True, "none of 4 guarded"),
        (figures(0.90) | spread(math.nan), figures(0.80) | spread(0.9), False, "worse: s0/std_ratio"),
        (figures(0.90) | spread(0.9), figures(0.80), False, "only one of the two was judged by s0/std_ratio"),
        ({"s1/prompt_acc": wilson(9, 9)}, figures(0.80), False, "not judged by s0/prompt_acc"),
    ],
)  # fmt: skip
def test_a_champion_falls_only_to_a_model_that_is_better_and_in_nothing_worse(new, old, promoted, words):
    decision = decide(new, old, {}, CONFIG)
    assert decision.promoted == promoted, decision.reason
    assert re.search(words, decision.reason), decision.reason


@given(st.integers(0, 400), st.integers(1, 400), st.integers(0, 400), st.integers(1, 400))
def test_the_gate_opens_exactly_where_newcombes_interval_leaves_out_zero(a, n, b, m):
    one, other = wilson(min(a, n), n), wilson(min(b, m), m)
    forward, back = (
        decide({"s0/prompt_acc": x}, {"s0/prompt_acc": y}, {}, CONFIG) for x, y in ((one, other), (other, one))
    )
    assert forward.promoted == (newcombe(one, other).low > 0)
    assert not (forward.promoted and back.promoted)
    for decision in (forward, back):
        assert decision.changes[0].better == decision.promoted


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"figure": "s9/valid"}, "unknown split 's9'"), ({"guarded": ["s0/valid", "s0/case_copy"]}, "'case_copy'"),
     ({"figure": "s0/prompt_ac"}, "did you mean 'prompt_acc'")],
)  # fmt: skip
def test_figures_that_cannot_be_compared_are_refused(settings, words):
    with pytest.raises(LabError, match=words):
        GateConfig.model_validate(settings)


DATA = DatasetConfig(clips=17, spec=ClipSpec(frames=4, size=16))


def trained(folder: Path, seed: int) -> Path:
    """A run folder with one checkpoint of a model that has learned nothing."""
    import torch

    torch.manual_seed(seed)
    run = RunConfig(model=GanConfig(width=8, frame_width=8, features=4).with_captions(DATA.prompts), dataset=DATA,
                    dataset_digest="x", seed=seed)  # fmt: skip
    checkpoint.save(run.build(), run, folder, 1, 0.0, keep=1)
    return folder


def evaluation(who: Subject, acc: float, valid: float = 0.9, suite: str = SUITE_VERSION) -> Evaluation:
    scores = {"s0": {"prompt_acc": wilson(round(acc * N), N), "valid": wilson(round(valid * N), N)}}
    return Evaluation(name=who.name, source=who.source, config=EvaluateConfig(), suite=suite, scores=scores,
                      bounds={"unconditional": {"s0": {"prompt_acc": wilson(9, 144)}}})  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # mlflow's and prefect's own
@pytest.mark.slow
def test_the_store_follows_the_gate(work: Path, server: str, tmp_path: Path) -> None:
    """Six models of one name: no better than chance, better, equal, better with a fault, judged otherwise, better."""
    from prefect import flow

    from tasks.gate import gate

    begun = datetime.now(UTC)

    @flow
    def judged(who: Subject, found: Evaluation) -> object:
        return gate(work, who, found, CONFIG)

    def challenge(seed: int, **scores: object) -> tuple[dict[str, str], dict[str, str]]:
        """Register a model and judge it: its tags, and the aliases afterwards."""
        run_dir = trained(tmp_path / str(seed), seed)
        with track(work, "exp", str(seed), params={}, tags={}) as tracker:
            uri = tracker.model(run_dir, "t2v-gan", "circle moving up")
        store, number = client(work), uri.rpartition("/")[2]
        assert aliases(store)["challenger"] == number
        who = subject(run_dir)
        judged(who, evaluation(who, **scores))
        about = store.get_registered_model("t2v-gan").description
        others = {"champion", "challenger"} - {best := "champion" if "champion" in aliases(store) else "challenger"}
        assert f"serve models:/t2v-gan@{best}\n" in about and f"@{others.pop()}" not in about, "as it stands there"
        return store.get_model_version("t2v-gan", number).tags, aliases(store)

    def aliases(store) -> dict[str, str]:
        return {alias: str(number) for alias, number in store.get_registered_model("t2v-gan").aliases.items()}

    tags, named = challenge(1, acc=0.05)
    assert (tags["t2v.gate"], named) == ("challenger", {"challenger": "1"})
    assert "unconditional" in tags["t2v.gate.reason"]
    tags, named = challenge(2, acc=0.5)
    assert (tags["t2v.gate"], named) == ("champion", {"champion": "2"})
    tags, named = challenge(3, acc=0.5)
    assert (tags["t2v.gate"], named) == ("challenger", {"champion": "2", "challenger": "3"})
    tags, named = challenge(4, acc=0.8, valid=0.5)
    assert named["champion"] == "2"
    assert "worse: s0/valid 50.0 % against 90.0 %" in tags["t2v.gate.reason"]
    assert tags["t2v.gate.against"] == "models:/t2v-gan/2"
    tags, named = challenge(5, acc=0.9, suite="0")
    assert named["champion"] == "2"
    assert re.search(r"16 px, 4 frames, up-right held out.*suite \d.*suite 0", tags["t2v.gate.reason"])
    tags, named = challenge(6, acc=0.8)
    assert named == {"champion": "6"}
    assert tags["t2v.gate.score"].startswith("s0/prompt_acc 80.0 %")
    assert tags["t2v.gate.score_against"].startswith("s0/prompt_acc 50.0 %")

    champion = subject(tmp_path / "6")
    assert judged(champion, evaluation(champion, acc=0.7)) is None, "the champion does not challenge itself"
    found = champion_of(client(work), "t2v-gan")
    assert found is not None
    assert figures_of(evaluation(champion, acc=0.7).scores)["s0/prompt_acc"].value == pytest.approx(0.7, abs=0.01)
    assert '"s0/prompt_acc": [0.69' in found.tags["t2v.scores"], "but its scores are refreshed"
    of_s3 = evaluation(champion, acc=0.7).model_copy(update={"scores": {"s3": {"prompt_acc": wilson(9, 10)}}})
    judged(champion, of_s3)
    found = champion_of(client(work), "t2v-gan")
    assert found is not None
    assert {"s0/prompt_acc", "s3/prompt_acc"} <= json.loads(found.tags["t2v.scores"]).keys(), "none is forgotten"
    stranger = subject(trained(tmp_path / "7", 7))
    assert judged(stranger, evaluation(stranger, acc=0.9)) is None, "what is not registered is not compared"

    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as api:
        shown = [a for a in api.read_artifacts() if a.key == "gate-t2v-gan" and a.created and a.created > begun]
    assert len(shown) == 6
    assert sum("becomes champion" in a.data for a in shown) == 2
    assert any("| s0/valid (guarded) | 50.0 % | 90.0 % | -40.0 % |" in a.data for a in shown)

    for uri, words in (
        ("models:/t2v-gam@champion", "unknown model 't2v-gam', did you mean 't2v-gan'"),
        ("models:/t2v-gan@champoin", r"t2v-gan has versions 1 to 6 and the aliases @champion \(version 6\); name one"),
        ("models:/t2v-gan/9", "versions 1 to 6"),
        ("runs:/0123/model", "check the run and the path"),
    ):
        with pytest.raises(LabError, match=words):
            fetch_model(work, uri)


def test_champions_are_of_one_background() -> None:
    from tasks.gate import judged_on

    evaluation = Evaluation(name="a", source="b", config=EvaluateConfig(), scores={})
    plain = DatasetConfig()
    others = [
        plain.model_copy(update=u) for u in ({"background": "stripes"}, {"background": "stripes", "drifting": True})
    ]
    told = [judged_on(data, evaluation) for data in (plain, *others)]
    assert len({*told}) == 3 and "background" not in told[0]
    assert "up-right held out, background stripes, drifting, by reader" in told[2]
