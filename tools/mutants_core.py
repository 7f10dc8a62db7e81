"""Faults in networks, dynamics, costs, settling and estimators."""

from mutant import Mutant

__all__ = ["CORE"]

THEOREM, REFERENCE = "theorems/test_ep_is_bptt.py::test_order_in_beta", "reference"
IMPLICIT = "theorems/test_ep_is_bptt.py::test_implicit_differentiation_is_bptt"
TRUNCATION = "theorems/test_ep_is_bptt.py::test_truncation_cuts_the_gradient_and_not_the_state"
SIGNS = "theorems/test_ep_is_bptt.py::test_random_signs_average_to_the_centred_estimate"
INPUT = "theorems/test_ep_is_bptt.py::test_the_input_gets_its_gradient_too"
PHI, SHAPES, COSTS, SETTLE = (f"laws/test_{name}.py" for name in ("phi", "activations", "costs", "settle"))
BRIDGE, UNTIED = "theorems/test_bridge.py", "theorems/test_untied.py"
TRAIN, ERRORS = "training/test_optimisers.py", "training/test_errors.py"
EP, NET, DYN, CON = "estimators/ep.py", "network.py", "dynamics.py", "dense.py"

CORE = [
    Mutant("sign of beta, one-sided", EP, "force=pull(beta)", "force=pull(-beta)", THEOREM),
    Mutant("sign of beta, centred", EP, "force=pull(each)", "force=pull(-each)", THEOREM),
    Mutant("both phases nudged the same way", EP, "return -beta, beta", "return beta, beta + 1e-9", THEOREM),
    Mutant("norm of beta, not 2 beta", EP, "betas[1] - betas[0]", "betas[1]", THEOREM),
    Mutant("states of the contrast swapped", EP, "a, b = zip(", "b, a = zip(", THEOREM),
    Mutant("random sign that never changes", EP, "device=device) < 0.5", "device=device) < 2.0", SIGNS),
    Mutant(
        "nudged phase from zero",
        EP,
        "drive, free.state, steps",
        "drive, tuple(0 * s for s in free.state), steps",
        REFERENCE,
    ),
    Mutant("1 / beta dropped", NET, "/ (norm * x.shape[0])", "/ x.shape[0]", THEOREM),
    Mutant("sum instead of mean", NET, "/ (norm * x.shape[0])", "/ norm", THEOREM),
    Mutant(
        "contrast under autocast",
        NET,
        "with full_precision(x):\n            terms",
        "if True:\n            terms",
        TRAIN,
    ),
    Mutant("bias left out of the drive", NET, "current = connection.offsets(x.shape[0])", "current = None", PHI),
    Mutant("gain left out of the drive", NET, "current, alpha=gain[post]", "current, alpha=1.0", PHI),
    Mutant(
        "shift left out of the drive",
        NET,
        "x.new_full(shape, shift)",
        "x.new_zeros(shape)",
        PHI,
    ),
    Mutant(
        "drive of half the batch",
        NET,
        "torch.cat([c] * n) for c in self.constant",
        "torch.cat([c, 0 * c]) for c in self.constant",
        PHI,
    ),
    Mutant(
        "feedback forgotten",
        CON,
        "a[self.post], self.down, alpha=self.gain_pre",
        "a[self.post], self.down, alpha=0.0",
        PHI,
    ),
    Mutant("tall currents without their gain", CON, "pre.t(), alpha=self.gain_post", "pre.t(), alpha=1.0", PHI),
    Mutant(
        "gains of the two ends swapped",
        CON,
        "feedback, pre, post, gains[pre], gains[post]",
        "feedback, pre, post, gains[post], gains[pre]",
        PHI,
    ),
    Mutant("sign of the bias gradient", CON, "step.sum(0) * slopes[0]", "-step.sum(0) * slopes[0]", PHI),
    Mutant(
        "half of the Hebbian difference", CON, "torch.cat([a.pre, a.pre - b.pre])", "torch.cat([a.pre, 0 * b.pre])", PHI
    ),
    Mutant(
        "difference of products, not product of differences",
        CON,
        "torch.cat([a.post - b.post, b.post]), rows(torch.cat([a.pre, a.pre - b.pre]))",
        "torch.cat([a.post, -b.post]), rows(torch.cat([a.pre, b.pre]))",
        PHI,
    ),
    Mutant(
        "self-connection counted once",
        "connections.py",
        "s.view_as(s) if differentiable and s.requires_grad else s.detach().requires_grad_()",
        "s if differentiable and s.requires_grad else s.requires_grad_()",
        PHI,
    ),
    Mutant(
        "force at the new state", DYN, "s[-1] = s[-1] + force(state[-1])", "s[-1] = s[-1] + force(s[-1])", REFERENCE
    ),
    Mutant("inside nudge without the gain", DYN, "alpha=network.relaxing[-1].activation.gain", "alpha=1.0", THEOREM),
    Mutant(
        "raw input to energy dynamics", DYN, "return network.populations[0].activation.rho(x)", "return x", REFERENCE
    ),
    Mutant("rho' forgotten", DYN, "p.activation.derivative(s, r) * pull[n]", "pull[n]", THEOREM),
    Mutant("output derivative always on", DYN, "n < last or self.output_derivative", "True", REFERENCE),
    Mutant(
        "dt forgotten in the nudge",
        DYN,
        "pull[last] = pull[last] + force(state[last])",
        "pull[last] = pull[last] + force(state[last]) / self.dt",
        REFERENCE,
    ),
    Mutant("clamp forgotten", DYN, "for s in moved) if self.clamp else", "for s in moved) if False else", REFERENCE),
    Mutant("admits any beta", DYN, "if abs(beta) >= 1:", "if abs(beta) >= 100:", ERRORS),
    Mutant("open interval", "activations.py", "((u >= 0) & (u <= 1))", "((u > 0) & (u < 1))", SHAPES),
    Mutant("torch's sigmoid", "activations.py", "torch.sigmoid, 4.0, -2.0", "torch.sigmoid, 1.0, 0.0", SHAPES),
    Mutant(
        "force away from the target",
        "costs.py",
        "self.target(y, out).view_as(out) - out",
        "out - self.target(y, out).view_as(out)",
        COSTS,
    ),
    Mutant("pull towards a target half as far", "costs.py", "goal = strength * y", "goal = strength * y / 2", COSTS),
    Mutant(
        "force of a subclass passed over",
        "costs.py",
        "if type(self).force is not SquaredError.force:",
        "if False:",
        COSTS,
    ),
    Mutant("pull that forgets its strength", "costs.py", "out, alpha=strength)", "out)", COSTS),
    Mutant(
        "pull of one strength for all", "costs.py", "strength, out, value=-1)", "strength[:1], out, value=-1)", COSTS
    ),
    Mutant("cost without its half", "costs.py", "flatten(1).sum(1) / 2", "flatten(1).sum(1)", COSTS),
    Mutant(
        "readout without its softmax",
        "costs.py",
        "keepdim=True) * torch.softmax(self.predict(out), 1)",
        "keepdim=True) * self.predict(out)",
        COSTS,
    ),
    Mutant(
        "loss with the surrogate's value",
        "estimators/base.py",
        "(surrogate - surrogate.detach())",
        "surrogate + 1.0",
        TRAIN,
    ),
    Mutant("called under no_grad", "estimators/base.py", "if not torch.is_grad_enabled():", "if False:", ERRORS),
    Mutant(
        "one step too many before the unrolled ones",
        "estimators/bptt.py",
        "free.fewer(last_steps)",
        "free.fewer(last_steps - 1)",
        TRUNCATION,
    ),
    Mutant("adjoint without its source", "estimators/implicit.py", "tuple(b + c for", "tuple(b for", IMPLICIT),
    Mutant("adjoint summed, not averaged", "estimators/implicit.py", ".sum() / x.shape[0]", ".sum()", IMPLICIT),
    Mutant("bridge not scaled back", "equilibrium.py", "g * (size * x.shape[0])", "g * x.shape[0]", BRIDGE),
    Mutant(
        "cotangent not normalised",
        "equilibrium.py",
        "return size, cotangent / size",
        "return size / size, cotangent",
        BRIDGE,
    ),
    Mutant("bridge pushes, not pulls", "equilibrium.py", "unit(-cotangent)", "unit(cotangent)", BRIDGE),
    Mutant(
        "rho(u) paired",
        CON,
        "self.bias, step, rows(free.pre), step",
        "self.bias, step * (1 - free.post**2), rows(free.pre), step",
        UNTIED,
    ),
    Mutant(
        "u at a nudged state",
        CON,
        "self.bias, step, rows(free.pre), step",
        "self.bias, step, rows(a.pre), step",
        UNTIED,
    ),
    Mutant(
        "feedback weights that are the forward ones",
        "untied.py",
        "self.feedback, pre, post",
        "self.upward.weight, pre, post",
        REFERENCE,
    ),
    Mutant("residual of half the sign", "settle.py", "torch.sub(b, a).abs_()", "torch.sub(b, a)", SETTLE),
    Mutant(
        "stops when the first sample has settled",
        "settle.py",
        "residual(before, after).max() <= self.tol",
        "residual(before, after).min() <= self.tol",
        SETTLE,
    ),
    Mutant("numbers that are not finite", "settle.py", "if not finite(change, drive.input):", "if False:", ERRORS),
    Mutant("late mean over everything", "settle.py", "taken > late:", "taken > 0:", SETTLE),
    Mutant(
        "readout that trusts targets to sum to 1",
        "costs.py",
        "target - target.sum(1, keepdim=True) *",
        "target -",
        COSTS,
    ),
    Mutant(
        "input without its gradient",
        EP,
        "network.contrast(dynamics.encode(network, x),",
        "network.contrast(drive.input,",
        INPUT,
    ),
    Mutant("bridge with the raw input", "equilibrium.py", "self.dynamics.encode(self.network, leaf)", "leaf", BRIDGE),
    Mutant(
        "phases under autocast",
        "settle.py",
        "with full_precision(drive.input):\n        for",
        "if True:\n        for",
        TRAIN,
    ),
    Mutant(
        "looks at every step", "settle.py", "self.tol is None or taken % self.check_every", "self.tol is None", SETTLE
    ),
    Mutant("constant currents overwritten", NET, "u_n.clone() if u_n is c else u_n", "u_n", "laws/test_dynamics.py"),
    Mutant(
        "broken phase repeated under autocast",
        "settle.py",
        "with full_precision(drive.input):\n            replay",
        "if True:\n            replay",
        ERRORS,
    ),
]
