"""The packages of the extra `pretrained`, imported only when asked for, without a network or a word."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from logging import CRITICAL
from typing import Any

from t2v_models.config import LabError

PACKAGES = "diffusers", "transformers"
OFFLINE = "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"


def require(who: str) -> None:
    """See that both are installed.

    Raises:
        LabError: they are not; how to install them.
    """
    if any(find_spec(name) is None for name in PACKAGES):
        raise LabError(
            f"{who} needs diffusers and transformers, which are not installed: pip install 't2v-lab[pretrained]'"
        )


def of(where: str, name: str) -> Any:
    """A class of one of the two packages. What they warn of is for those who write them."""
    with unwarned():
        return getattr(package(where), name)


@contextmanager
def unwarned() -> Iterator[None]:
    """The block may warn; nobody hears it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def package(name: str) -> Any:
    """The package itself; neither has a log or bars."""
    for variable in OFFLINE:
        os.environ[variable] = "1"  # read on import
    hub: Any = import_module("huggingface_hub.constants")
    hub.HF_HUB_OFFLINE = True  # where it was imported before
    for each in PACKAGES:  # what one loads, the other may tell of
        logs = import_module(f"{each}.utils.logging")
        logs.set_verbosity(CRITICAL)  # what goes wrong is raised
        logs.disable_progress_bar()
    return import_module(name)
