"""Connections: the terms of the primitive function Phi."""

from eqprop.connections.base import Connection
from eqprop.connections.conv import Conv2d
from eqprop.connections.dense import Dense
from eqprop.connections.mismatched import Mismatched
from eqprop.connections.untied import Untied

__all__ = [
    "Connection",
    "Conv2d",
    "Dense",
    "Mismatched",
    "Untied",
]
