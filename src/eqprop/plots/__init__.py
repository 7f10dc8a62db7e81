"""Pictures, as PNG and SVG; they need matplotlib, the extra ``eqprop[plot]``.

Every function takes data, draws on a figure of its own, and writes ``path`` twice, with the endings ``.png`` and ``.svg``; the same
data give the same bytes.
"""

from eqprop.plots.angles import angle_curves, angled
from eqprop.plots.by_angle import error_by_angle
from eqprop.plots.columns import side_by_side
from eqprop.plots.curves import increments
from eqprop.plots.distances import distances, over_length
from eqprop.plots.dots import dots
from eqprop.plots.errors import against_beta, relative_errors
from eqprop.plots.layer_bars import layer_bars
from eqprop.plots.phases import Course, courses
from eqprop.plots.spikes import approach, decoding, firing, raster
from eqprop.plots.sweeps import beside_published, proportional, sweep
from eqprop.plots.training import activities, error_curves, settling
from eqprop.plots.tuning import agreement_map

__all__ = [
    "Course",
    "activities",
    "against_beta",
    "agreement_map",
    "angle_curves",
    "angled",
    "approach",
    "beside_published",
    "courses",
    "decoding",
    "distances",
    "dots",
    "error_by_angle",
    "error_curves",
    "firing",
    "increments",
    "layer_bars",
    "over_length",
    "proportional",
    "raster",
    "relative_errors",
    "settling",
    "side_by_side",
    "sweep",
]
