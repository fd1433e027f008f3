"""PyTorch's torchrun, which ends as soon as its ranks have ended: `training.launch` starts it."""

from torch.distributed.run import main

from t2v_models.processes import end_at_once

if __name__ == "__main__":
    end_at_once(main)
