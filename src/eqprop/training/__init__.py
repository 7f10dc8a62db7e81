"""Training: runs as frozen objects, a trainer that survives anything, checkpoints, logs."""

from eqprop.training.config.optimizers import SGD, Adam, AdamW
from eqprop.training.config.quantized import QuantizedSGD
from eqprop.training.config.run import Data, Run
from eqprop.training.config.schedules import Constant, Cosine, StepDecay
from eqprop.training.evaluation import evaluate
from eqprop.training.seeds import train_seeds
from eqprop.training.session import Session, create_run, load, prepare, train_run
from eqprop.training.trainer import Trainer

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Data",
    "QuantizedSGD",
    "Run",
    "Session",
    "StepDecay",
    "Trainer",
    "create_run",
    "evaluate",
    "load",
    "prepare",
    "train_run",
    "train_seeds",
]
