"""PyTorch's torchrun, which ends as soon as its ranks have ended: `training.launch` starts it."""

from t2v_models.ending import end_at_once


def main() -> None:
    """Import it and run it."""
    from torch.distributed.run import main as torchrun

    torchrun()


if __name__ == "__main__":
    end_at_once(main)
