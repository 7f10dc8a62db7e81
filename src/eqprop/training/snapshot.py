"""What a training is at a given moment, as the tensors and the facts of a checkpoint, and back."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eqprop.training import checkpoint

if TYPE_CHECKING:
    from eqprop.training.trainer import Trainer

__all__ = ["load_trainer_state", "trainer_state"]

Snapshot = tuple[dict[str, Tensor], dict[str, Any]]


def trainer_state(trainer: "Trainer", spent: float) -> Snapshot:
    """All that decides how a training goes on.

    Args:
        trainer: the training.
        spent: seconds that the present epoch has taken so far.

    Raises:
        FloatingPointError: if a weight is not finite.
    """
    optimizer = checkpoint.optimizer_state(trainer.optimizer)
    sums, counts = trainer.metrics.state()
    tensors = checkpoint.weights(trainer.model) | optimizer.tensors
    tensors |= {"tally": sums, "random.torch": torch.get_rng_state(), "random.epoch": trainer.drawn}
    tensors["random.estimator"] = trainer.generator.get_state()
    facts = {
        "epoch": trainer.epoch,
        "batch": trainer.batch,
        "config": trainer.config,
        "counts": counts,
        "best": trainer.best,
        "optimizer": optimizer.facts,
        "scheduler": checkpoint.scheduler_state(trainer.scheduler),
        "spent": spent,
    }
    return tensors, facts


def load_trainer_state(trainer: "Trainer", tensors: dict[str, Tensor], facts: dict[str, Any], path: Path) -> None:
    """Make a training what it was when the snapshot was taken, in its file ``path``.

    Raises:
        ValueError: if it is another training's.
    """
    checkpoint.load_weights(trainer.model, tensors, path)
    checkpoint.load_optimizer(trainer.optimizer, tensors, facts["optimizer"])
    checkpoint.load_scheduler(trainer.scheduler, facts["scheduler"])
    torch.set_rng_state(tensors["random.torch"])
    trainer.generator.set_state(tensors["random.estimator"])
    trainer.start_epoch(done=facts["epoch"])
    trainer.batch, trainer.drawn, trainer.best = facts["batch"], tensors["random.epoch"], facts["best"]
    trainer.spent = facts["spent"]
    trainer.metrics.restore(tensors["tally"], facts["counts"])
