"""Beyond the paper: what imperfect analog hardware does to EP, centred EP, C-EP and C-VF at one budget."""

from collections.abc import Callable

from eqprop.papers.hardware.recipes import BITS, MISMATCH, NOISE, with_bits, with_mismatch, with_noise
from eqprop.papers.registry import recipe
from eqprop.papers.reproduction.paper import Row, Sweep
from eqprop.training.config.run import Run

__all__ = ["imperfections"]

RULES = {"EP": "hardware-ep", "EP, centred": "hardware-centred", "C-EP": "hardware-cep", "C-VF": "hardware-cvf"}

COMMON = (
    "Beyond the paper: 8x8 digits, 64-128-10, T 20, K 8, beta 0.5, 20 epochs for every rule; one seed. The rates are each rule's "
    "own, those of C-EP and C-VF up to ten times smaller, which in itself makes a rule more robust; C-VF is centred, as EP in the "
    "second curve is. "
)


def imperfections() -> tuple[Sweep, ...]:
    """Noise on the states, mismatch of the feedback, few bits."""
    return (
        swept(
            "hardware-noise",
            "Analog hardware: noise on the states",
            "standard deviation of the noise that a step adds",
            "Gaussian noise on every unit at every step of every phase, in training and in tests.",
            with_noise,
            {std: f"--model.dynamics.std {std:g}" for std in NOISE},
        ),
        swept(
            "hardware-mismatch",
            "Analog hardware: feedback that is not the forward weights",
            "relative standard deviation of each synapse's feedback",
            "Each synapse sends back by its weight times a factor of its own, drawn once; the rule does not know of it.",
            with_mismatch,
            {std: f"--model.mismatch {std:g}" for std in MISMATCH},
        ),
        swept(
            "hardware-bits",
            "Analog hardware: weights and updates of few bits",
            "bits of weights and of updates",
            "Weights of so many bits, moved by updates of as many; C-EP and C-VF move and round at every nudged step.",
            few_bits,
            {bits: words(bits) for bits in BITS if bits is not None},
        ),
    )


def few_bits(run: Run, bits: float) -> Run:
    """The run with weights and updates of so many bits."""
    return with_bits(run, int(bits))


def words(bits: int) -> str:
    """The options for so many bits."""
    return f"--optimizer quantized --optimizer.weight-bits {bits} --optimizer.update-bits {bits}"


def swept(
    name: str, title: str, axis: str, text: str, change: Callable[[Run, float], Run], options: dict[float, str]
) -> Sweep:
    """One imperfection at its levels, a curve for each rule."""
    curves = {
        label: {level: row(recipe(rule), change, level, given) for level, given in options.items()}
        for label, rule in RULES.items()
    }
    return Sweep(name, title, axis, COMMON + text, curves)


def row(run: Run, change: Callable[[Run, float], Run], level: float, given: str) -> Row:
    """A rule's training at one level; the ideal one is the recipe itself, in whatever figure it stands."""
    made = change(run, level)
    return Row(made, f"eqprop train {run.name}" + f" {given}" * (made != run))
