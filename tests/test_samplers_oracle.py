"""Samplers against diffusers' schedulers: the same denoiser, levels and noise end in the same place.

Where diffusers is installed its schedulers run; everywhere, what they gave (version 0.42.1) is compared with.
`python -m tests.test_samplers_oracle` writes that anew. Churn is not compared: diffusers asks the network before it
adds the noise, where the paper asks after.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from t2v_models.families.diffusion.noise_levels import NoiseLevels
from t2v_models.families.diffusion.samplers import ddim, ddpm, dpm2m, euler, heun, sde2m
from tests.mixture import PLANE

GOLDEN = Path(__file__).parent / "golden" / "samplers.json"
STEPS, CLIPS = 8, 3
LOW, HIGH = 0.05, 10.0
TOLERANCE = 1e-5
SAMPLERS = {
    "EDMDPMSolverMultistepScheduler": dpm2m,
    "EDMDPMSolverMultistepScheduler, sde-dpmsolver++": sde2m,
    "EulerDiscreteScheduler": euler,
    "EulerAncestralDiscreteScheduler": ddpm,
    "HeunDiscreteScheduler": heun,
    "DDIMScheduler": partial(ddim, eta=0.5),
    "DDPMScheduler": ddpm,
}
"""Ours, by the name of the scheduler that must agree, and of its algorithm where it has several."""


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def start() -> Tensor:
    return torch.randn(CLIPS, 2, generator=torch.Generator().manual_seed(8))


def ours(name: str, sigmas: Tensor) -> Tensor:
    random = generator()
    draw: Callable[[], Tensor] = lambda: torch.randn(CLIPS, 2, generator=random)  # noqa: E731
    return SAMPLERS[name](PLANE.denoise, sigmas[0] * start(), sigmas, draw)


def theirs(name: str) -> tuple[Tensor, Tensor]:
    """The levels of a scheduler and the end of its steps."""
    scheduler = scheduler_of(name)
    scheduler.set_timesteps(STEPS)
    keeps_variance = name.startswith("DD")  # its x is ours / sqrt(1 + sigma²)
    if keeps_variance:
        bars = scheduler.alphas_cumprod[scheduler.timesteps]
        levels = torch.cat([((1 - bars) / bars).sqrt(), torch.zeros(1)])
    else:
        levels = scheduler.sigmas
    options: dict[str, Any] = {"generator": generator()} if "Heun" not in name else {}
    options |= {"eta": 0.5} if name == "DDIMScheduler" else {}
    x = levels[0] * start()
    for place, (time, sigma) in enumerate(zip(scheduler.timesteps, levels, strict=False)):
        clean = PLANE.denoise(x, sigma.expand(CLIPS))
        if keeps_variance:
            x = scheduler.step(clean, time, x / (1 + sigma**2).sqrt(), **options).prev_sample
            x = x * (1 + levels[place + 1] ** 2).sqrt()
        else:
            into = (1 + sigma**2).sqrt()
            said = (clean - x / into**2) / sigma * into if "EDM" in name else (x - clean) / sigma
            scheduler.scale_model_input(x, time)  # or it warns at each step
            x = scheduler.step(said, time, x, **options).prev_sample
    return torch.cat([levels[:1], levels[1::2]]) if "Heun" in name else levels, x


def scheduler_of(name: str) -> Any:
    import diffusers

    name, *algorithm = name.split(", ")
    kind = getattr(diffusers, name)
    if name.startswith("EDM"):
        options = {"algorithm_type": algorithm[0]} if algorithm else {}
        return kind(sigma_min=LOW, sigma_max=HIGH, sigma_data=1.0, final_sigmas_type="zero", **options)
    if name.startswith("DD"):
        return kind(prediction_type="sample", clip_sample=False)
    return kind(timestep_spacing="linspace")


@pytest.mark.filterwarnings("ignore")  # diffusers' own
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_end_where_diffusers_ends(name):
    pytest.importorskip("diffusers")
    sigmas, end = theirs(name)
    torch.testing.assert_close(ours(name, sigmas), end, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_end_where_diffusers_ended(name):
    stored = json.loads(GOLDEN.read_text())[name]
    found = ours(name, torch.tensor(stored["sigmas"]))
    torch.testing.assert_close(found, torch.tensor(stored["end"]), rtol=0, atol=TOLERANCE)


def test_the_curves_rho_and_linear_are_diffusers():
    stored = json.loads(GOLDEN.read_text())
    rho = torch.tensor(stored["EDMDPMSolverMultistepScheduler"]["sigmas"])
    torch.testing.assert_close(NoiseLevels(low=LOW, high=HIGH).falling(STEPS), rho, rtol=1e-5, atol=0)
    linear = torch.tensor(stored["EulerDiscreteScheduler"]["sigmas"])
    mine = NoiseLevels(curve="linear", low=float(linear[-2]), high=float(linear[0])).falling(STEPS)
    torch.testing.assert_close(mine, linear, rtol=0.01, atol=0)  # theirs is in 1000 steps, ours continuous


if __name__ == "__main__":
    found = {name: dict(zip(("sigmas", "end"), (t.tolist() for t in theirs(name)), strict=True)) for name in SAMPLERS}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
