"""The worlds there are, by name: `t2v render --world`, its help and its error sentence follow from this list."""

from t2v_models.config import LabError, near
from t2v_models.worlds.circles import Circles
from t2v_models.worlds.pairs import Pairs
from t2v_models.worlds.shapes import Shapes
from t2v_models.worlds.stories import Stories
from t2v_models.worlds.world import World

WORLDS: dict[str, World] = {world.name: world for world in (Circles(), Shapes(), Pairs(), Stories())}


def world_named(name: object) -> World:
    """The world of that name.

    Raises:
        LabError: there is none.
    """
    if name not in WORLDS:
        raise LabError(f"unknown world {name!r}: {near(str(name), WORLDS)}")
    return WORLDS[str(name)]


def described() -> str:
    """All of them in a few words each."""
    return "; ".join(f"{world.name}: {world.about}" for world in WORLDS.values()) + "."
