"""Figures as PNG and SVG files; they need matplotlib, the extra ``eqprop[plot]``.

Each function takes data, draws one figure and writes it to ``path`` with the suffixes ``.png`` and ``.svg``. The same data give the
same bytes.
"""

from eqprop._core.deprecation import former_names
from eqprop.plots.canvas import plain
from eqprop.plots.columns import side_by_side
from eqprop.plots.curves import increments
from eqprop.plots.errors import against_beta, relative_errors
from eqprop.plots.layer_bars import layer_bars
from eqprop.plots.logarithmic import dot_plot, over_length, proportional
from eqprop.plots.phases import ResidualCurve, activities, distances, residual_curves, settling
from eqprop.plots.published import beside_published, error_by_angle, sweep
from eqprop.plots.spikes import decoded_values, firing_rates, raster, steady_state_distance
from eqprop.plots.training import angle_curves, error_curves, has_angles
from eqprop.plots.tuning import agreement_map

__all__ = [
    "ResidualCurve",
    "activities",
    "against_beta",
    "agreement_map",
    "angle_curves",
    "beside_published",
    "decoded_values",
    "distances",
    "dot_plot",
    "error_by_angle",
    "error_curves",
    "firing_rates",
    "has_angles",
    "increments",
    "layer_bars",
    "over_length",
    "plain",
    "proportional",
    "raster",
    "relative_errors",
    "residual_curves",
    "settling",
    "side_by_side",
    "steady_state_distance",
    "sweep",
]

__getattr__ = former_names(
    __name__,
    globals(),
    {
        "Course": "ResidualCurve",
        "angled": "has_angles",
        "approach": "steady_state_distance",
        "courses": "residual_curves",
        "decoding": "decoded_values",
        "dots": "dot_plot",
        "firing": "firing_rates",
    },
)
