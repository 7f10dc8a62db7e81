"""Training: runs as frozen objects, a trainer with checkpoints, logs, several seeds, several processes."""

from eqprop._core.deprecation import former_names
from eqprop.training.config.optimizers import SGD, Adam, AdamW
from eqprop.training.config.quantized import QuantizedSGD
from eqprop.training.config.run import Data, Run
from eqprop.training.config.schedules import Constant, Cosine, StepDecay
from eqprop.training.metrics import evaluate
from eqprop.training.seeds import train_seeds
from eqprop.training.session import PreparedRun, create_run, load, prepare_run, train_run
from eqprop.training.trainer import Trainer

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Data",
    "PreparedRun",
    "QuantizedSGD",
    "Run",
    "StepDecay",
    "Trainer",
    "create_run",
    "evaluate",
    "load",
    "prepare_run",
    "train_run",
    "train_seeds",
]

__getattr__ = former_names(
    __name__,
    globals(),
    {
        "QuantisedSGD": "QuantizedSGD",
        "Session": "PreparedRun",
        "prepare": "prepare_run",
        "proceed": "train_run",
        "proceed_at_once": "train_seeds",
        "start": "create_run",
    },
)
