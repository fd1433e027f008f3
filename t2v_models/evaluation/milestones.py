"""How long a training took to reach an accuracy, from the clips read along the way."""

from collections.abc import Mapping

LEVELS = (0.5, 0.8, 0.9, 0.95)


def milestones(history: Mapping[int, Mapping[str, float]], batch_size: int) -> dict[str, float]:
    """Seconds and clip-steps (clips learnt from, repeats counted) to the first reading at each level.

    Args:
        history: figures by step; those with `watch/prompt_acc` and `train/seconds` count.
        batch_size: clips per step.

    Returns:
        `reach/50_seconds` and `reach/50_clip_steps`, and so on; levels never reached are left out.
    """
    reached: dict[str, float] = {}
    for step, figures in sorted(history.items()):
        for level in LEVELS:
            name = f"reach/{100 * level:.0f}"
            if figures.get("watch/prompt_acc", 0) >= level and f"{name}_seconds" not in reached:
                reached |= {f"{name}_seconds": figures["train/seconds"], f"{name}_clip_steps": float(step * batch_size)}
    return reached
