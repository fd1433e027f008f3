"""Verdicts on clips, and real clips, of the world `shapes`, whose grammar has the prompts of `circles` as well."""

from functools import partial

from t2v_models.judging import baselines, health, verdicts
from t2v_models.worlds.listed import WORLDS

GRAMMAR = WORLDS["shapes"]
judge = partial(verdicts.judge, world=GRAMMAR)
oracle = partial(baselines.oracle, world=GRAMMAR)
alarms = partial(health.alarms, world=GRAMMAR)
sentences = partial(health.sentences, world=GRAMMAR)
