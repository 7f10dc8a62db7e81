"""Faults in what makes hardware less than ideal: noise, mismatch, few bits."""

from mutant import Mutant

__all__ = ["HARDWARE"]

NOISE, MISMATCH = "laws/test_noise.py", "theorems/test_mismatch.py"
BITS, RECIPES = "training/test_training_quantised.py", "training/test_training_hardware.py"
GRID = "training/quantised.py"

HARDWARE = [
    Mutant("noise by variance", "noise.py", "alpha=self.std)", "alpha=self.std**2)", NOISE),
    Mutant(
        "noise on the output alone",
        "noise.py",
        "for s in after) if self.std",
        "for s in after[-1:]) if self.std",
        NOISE,
    ),
    Mutant(
        "noise without nudge only",
        "noise.py",
        "if self.std else after",
        "if self.std and force is None else after",
        NOISE,
    ),
    Mutant("uniform noise", "noise.py", "torch.randn(like.shape, dtype", "3.46 * torch.rand(like.shape, dtype", NOISE),
    Mutant(
        "one noise for all samples",
        "noise.py",
        "return torch.randn(like.shape, dtype=like.dtype)",
        "return torch.randn(like.shape[1:], dtype=like.dtype).expand(like.shape)",
        NOISE,
    ),
    Mutant("noise draws at 0", "noise.py", "if self.std else after", "if self.std >= 0 else after", NOISE),
    Mutant("absolute deviations", "mismatch.py", "* (1 + self.std * self", "+ (self.std * self", MISMATCH),
    Mutant(
        "the wire is ideal",
        "mismatch.py",
        "self.feedback(), pre, post",
        "feedback_of(self.written), pre, post",
        MISMATCH,
    ),
    Mutant("deviations not saved", "mismatch.py", ".detach()))", ".detach()), persistent=False)", MISMATCH),
    Mutant(
        "upwards as written back",
        "mismatch.py",
        "return written.feedback if",
        "return written.upward.weight if",
        MISMATCH,
    ),
    Mutant(
        "readout drawn after deviations",
        "architectures.py",
        "dynamics, cost, self.settle or 30",
        "dynamics, fresh(self.cost), self.settle or 30",
        MISMATCH,
    ),
    Mutant("mismatch of the input", "architectures.py", "if self.mismatch and pre", "if self.mismatch", MISMATCH),
    Mutant("weights to the nearest level", GRID, "(update / grain + xi).floor()", "(update / grain).round()", BITS),
    Mutant("weights always down", GRID, "(update / grain + xi).floor()", "(update / grain).floor()", BITS),
    Mutant("one draw for a tensor", GRID, "torch.rand(weight.shape, ", "torch.rand(weight.shape[-1:], ", BITS),
    Mutant("no span", GRID, "return whole.clamp(-levels, levels) * grain", "return whole * grain", BITS),
    Mutant("updates up the gradient", GRID, 'p.grad * -group["lr"]', 'p.grad * group["lr"]', BITS),
    Mutant("updates of the weights' bits", GRID, 'top(group["update_bits"])', 'top(group["weight_bits"])', BITS),
    Mutant("updates of any size", GRID, "update = coarse(", "update = (lambda u, _: u)(", BITS),
    Mutant("first weights off the grid", GRID, "p.copy_(on_grid(p,", "p.clone().copy_(on_grid(p,", BITS),
    Mutant(
        "bits of weights alone", "recipes/hardware.py", "rates, bits, bits, SPAN", "rates, bits, span=SPAN", RECIPES
    ),
    Mutant("angles draw from the training", "training/probe.py", "with seeded(0, REST):", "if True:", RECIPES),
]
