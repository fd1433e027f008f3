"""Seconds of sampling are counted apart from those of judging, and shown."""

import math

import pytest

from t2v_models.judging.scores import Seconds
from tasks.report.stopwatch import Stopwatch


def test_every_call_adds_up_and_a_failing_one_too() -> None:
    watch, outer = Stopwatch(), Stopwatch()
    counted = watch.around(lambda n: math.fsum(1 / k for k in range(1, n)))
    with outer:
        assert counted(100_000) == math.fsum(1 / k for k in range(1, 100_000))
        once = watch.wall, watch.cpu
        counted(100_000)
        twice = watch.wall, watch.cpu
        with pytest.raises(TypeError):
            counted("many")
    assert 0 < once[0] < twice[0] < watch.wall < outer.wall
    assert 0 < once[1] < twice[1] <= watch.cpu <= outer.cpu


def test_a_person_reads_sampling_apart_from_judging() -> None:
    spent = Seconds(sampling=12.04, reading=1.9, scoring=4.06, cpu=5.5)
    assert str(spent) == "sampled in 12.0 s, read in 1.9 s and scored in 4.1 s (5.5 s of CPU)"
