"""Training: runs as frozen objects, a trainer that survives anything, checkpoints, logs."""

from eqprop.training.evaluation import evaluate
from eqprop.training.optimisers import SGD, Adam, AdamW
from eqprop.training.quantised import QuantisedSGD
from eqprop.training.run import Data, Run
from eqprop.training.schedules import Constant, Cosine, StepDecay
from eqprop.training.seeds import proceed_at_once
from eqprop.training.session import Session, load, prepare, proceed, start
from eqprop.training.trainer import Trainer

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Data",
    "QuantisedSGD",
    "Run",
    "Session",
    "StepDecay",
    "Trainer",
    "evaluate",
    "load",
    "prepare",
    "proceed",
    "proceed_at_once",
    "start",
]
