"""Sweeps beyond the papers: test errors of EP, centred EP, C-EP and C-VF on imperfect analog hardware, at one training budget."""

from collections.abc import Callable

from eqprop.papers.hardware.recipes import BITS, MISMATCH, NOISE, with_bits, with_mismatch, with_noise
from eqprop.papers.registry import recipe
from eqprop.papers.reproduction.paper import Row, Sweep
from eqprop.training.config.run import Run

__all__ = ["hardware_sweeps"]

_RULES = {"EP": "hardware-ep", "EP, centred": "hardware-centred", "C-EP": "hardware-cep", "C-VF": "hardware-cvf"}

_COMMON = (
    "Not in the paper: 8x8 digits, 64-128-10, T 20, K 8, beta 0.5, 20 epochs for every rule; one seed. The rates were chosen for "
    "each rule. Those of C-EP and C-VF are up to ten times smaller, which alone makes a rule more robust. C-VF is centred, like EP "
    "in the second curve. "
)


def hardware_sweeps() -> tuple[Sweep, ...]:
    """Return the sweeps over noise on the states, mismatch of the feedback, and number of bits."""
    return (
        _sweep(
            "hardware-noise",
            "Analog hardware: noise on the states",
            "standard deviation of the noise added at a step",
            "Gaussian noise on every unit at every step of every phase, in training and in tests.",
            with_noise,
            {std: f"--model.dynamics.std {std:g}" for std in NOISE},
        ),
        _sweep(
            "hardware-mismatch",
            "Analog hardware: feedback weights that differ from the forward weights",
            "relative standard deviation of a synapse's feedback weight",
            "The feedback weight of each synapse is its forward weight times a factor, drawn once; the rule ignores it.",
            with_mismatch,
            {std: f"--model.mismatch {std:g}" for std in MISMATCH},
        ),
        _sweep(
            "hardware-bits",
            "Analog hardware: weights and updates with few bits",
            "bits of weights and of updates",
            "Weights and updates have the same number of bits; C-EP and C-VF update and round at every nudged step.",
            lambda run, bits: with_bits(run, int(bits)),
            {
                bits: f"--optimizer quantized --optimizer.weight-bits {bits} --optimizer.update-bits {bits}"
                for bits in BITS
                if bits is not None
            },
        ),
    )


def _sweep(
    name: str, title: str, axis: str, text: str, change: Callable[[Run, float], Run], options: dict[float, str]
) -> Sweep:
    curves = {
        label: {level: _row(recipe(rule), change, level, words) for level, words in options.items()}
        for label, rule in _RULES.items()
    }
    return Sweep(name, title, axis, _COMMON + text, curves)


def _row(run: Run, change: Callable[[Run, float], Run], level: float, options: str) -> Row:
    # The ideal level is the recipe itself, without options, so that all sweeps share its training.
    changed = change(run, level)
    return Row(changed, f"eqprop train {run.name}" + f" {options}" * (changed != run))
