"""Inject one fault at a time into a copy of the package; the tests named beside it must fail.

    python tools/mutants.py [--jobs N] [--list] [WORD ...]        # WORD: only faults whose name contains it

The table holds faults of meaning: a wrong state, sign, norm or order that leaves a plausible program. A fault is *caught* if its
tests fail, and *survives* if they pass: a missing test. A text that is not found exactly once in its file is an error, because
the table must follow the code. Exit status 1 if a fault survives, 2 if the table does not fit the code.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "eqprop"
TIMEOUT = 300
"""Seconds for the tests of one fault. Tests that hang have noticed it."""


@dataclass(frozen=True)
class Mutant:
    """Replace the only occurrence of `old` in `file` by `new`; the tests in `tests` must fail.

    Attributes:
        name: what is wrong.
        file: file to change, relative to src/eqprop.
        old: text to replace; one short expression, so that formatting does not matter.
        new: its replacement.
        tests: test files or folders, relative to tests, separated by spaces.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


BPTT = "theorems/test_ep_is_bptt.py"
PHASES, CONTINUAL, SWEEPS = (f"reference/test_{name}.py" for name in ("phases", "continual", "sweeps"))
PHI, COSTS, SETTLE, ORDER, ANDERSON = (
    f"laws/test_{name}.py" for name in ("phi", "costs", "settle", "order", "acceleration")
)

# fmt: off
ESTIMATORS = [
    Mutant("sign of beta, one-sided", "estimators/ep.py", "nudging_force(betas[0] if",
           "nudging_force(-betas[0] if", BPTT),
    Mutant("sign of beta, centered", "estimators/ep.py", "else strength_per_sample(free.output, betas)",
           "else -strength_per_sample(free.output, betas)", BPTT),
    Mutant("both phases nudged alike", "estimators/ep.py", "return -beta, beta", "return beta, beta + 1e-9", BPTT),
    Mutant("norm beta, not 2 beta", "estimators/ep.py", "betas[1] - betas[0]", "betas[1]", BPTT),
    Mutant("states of the contrast swapped", "estimators/ep.py", "a, b = zip(", "b, a = zip(", BPTT),
    Mutant("random sign constant", "estimators/ep.py", "device=device) < 0.5", "device=device) < 2.0", BPTT),
    Mutant("nudged phase from zero", "estimators/ep.py", "settle(nudged_phase, free.state,",
           "settle(nudged_phase, tuple(0 * s for s in free.state),", "reference/test_ep_gradients.py"),
    Mutant("input detached", "estimators/ep.py", "contrast(model.dynamics.encode(model.network, x),",
           "contrast(phase.drive.input,", BPTT),
    Mutant("1 / beta missing", "network.py", "/ (norm * x.shape[0])", "/ x.shape[0]", BPTT),
    Mutant("sum over the batch, not mean", "network.py", "/ (norm * x.shape[0])", "/ norm", BPTT),
    Mutant("value of the surrogate in the loss", "estimators/base.py", "(surrogate - surrogate.detach())",
           "surrogate + 1.0", "training/test_optimizers.py"),
    Mutant("untied: rho(u) paired", "connections/dense.py", "self.bias, step, _as_vectors(free.pre), step",
           "self.bias, step * (1 - free.post**2), _as_vectors(free.pre), step", "theorems/test_untied.py"),
    Mutant("untied: u at s^-beta", "connections/dense.py", "self.bias, step, _as_vectors(free.pre), step",
           "self.bias, step, _as_vectors(a.pre), step", "theorems/test_untied.py"),
    Mutant("BPTT truncated one step early", "estimators/bptt.py", "free.shortened(unrolled)",
           "free.shortened(unrolled - 1)", BPTT),
    Mutant("adjoint without its source", "estimators/implicit.py", "tuple(b + c for", "tuple(b for", BPTT),
    Mutant("layer: sign of the cotangent", "estimators/equilibrium.py", "_normalize(-cotangent)",
           "_normalize(cotangent)", "theorems/test_bridge.py"),
]
CONTINUAL_EP = [
    Mutant("stale drive", "estimators/continual.py", "model.dynamics.prepare(model.network, x).repeat(len(betas))",
           "nudged.phase.drive", CONTINUAL),
    Mutant("increments against the free state", "estimators/continual.py", "            before = after\n", "",
           CONTINUAL),
    Mutant("both trajectories with one sign", "estimators/continual.py",
           "torch.cat([after_minus, before_plus]), torch.cat([before_minus, after_plus])", "before, after",
           CONTINUAL),
    Mutant("presynaptic activity after the step", "estimators/continual.py", "Contrast(before, before, after,",
           "Contrast(after, before, after,", CONTINUAL),
    Mutant("stale current of the input", "estimators/fast_weights.py", "torch.addmm(u, kernel, a - b)", "u",
           CONTINUAL),
    Mutant("fast weights not updated", "estimators/fast_weights.py",
           "connection.updated(*step.ends(x, *ends), sizes)", "connection", CONTINUAL),
    Mutant("untied increments telescoped", "estimators/fast_weights.py", "pre == 0 or isinstance(connection, Dense)",
           "True", CONTINUAL),
    Mutant("fast weights move up the gradient", "connections/dense.py", "right, alpha=-sizes[0]",
           "right, alpha=sizes[0]", CONTINUAL),
]
DYNAMICS = [
    Mutant("force at the new state", "dynamics/prototypical.py", "s[-1] = s[-1] + force(self.units(state)[-1])",
           "s[-1] = s[-1] + force(s[-1])", "reference/test_trajectories.py"),
    Mutant("raw input in energy dynamics", "dynamics/energy.py", "network.populations[0].activation.rho(x)", "x",
           PHASES),
    Mutant("derivative of rho missing", "dynamics/energy.py", "p.activation.derivative(s, r) * ", "", PHASES),
    Mutant("dt missing in the nudge", "dynamics/energy.py", "+ force(self.units(state)[last])",
           "+ force(self.units(state)[last]) / self.dt",
           "reference/test_trajectories.py"),
    Mutant("hard sigmoid's slope on the open interval", "activations.py", "((u >= 0) & (u <= 1))",
           "((u > 0) & (u < 1))", "laws/test_activations.py"),
    Mutant("force away from the target", "costs.py", "self._as_floats(y, out).view_as(out) - out",
           "out - self._as_floats(y, out).view_as(out)", COSTS),
    Mutant("readout without softmax", "costs.py", "torch.softmax(self.predict(out), 1)", "self.predict(out)", COSTS),
]
CONNECTIONS = [
    Mutant("feedback missing", "connections/dense.py", "self.down, alpha=self.gain_pre", "self.down, alpha=0.0", PHI),
    Mutant("bias missing in the drive", "network.py", "current = connection.batch_offset(x.shape[0])",
           "current = None", PHI),
    Mutant("half of the Hebbian difference", "connections/dense.py", "torch.cat([a.pre, a.pre - b.pre])",
           "torch.cat([a.pre, 0 * b.pre])", PHI),
    Mutant("untied feedback by forward weights", "connections/untied.py",
           "prepare_with_feedback(self.feedback_weight(), pre, post, gains)",
           "prepare_with_feedback(self.forward_connection.weight, pre, post, gains)", "reference/test_untied.py"),
    Mutant("mismatch not in the currents", "connections/mismatched.py", " * (1 + self.std * self.deviation)",
           " * (1 + 0 * self.deviation)", "theorems/test_mismatch.py"),
    Mutant("convolution: feedback by the forward kernel", "connections/conv.py", "self._correlation(feedback).down(",
           "self._correlation(self.weight).down(", "laws/test_convolution.py"),
    Mutant("max pooling below tanh", "connections/conv.py", "not post.lowest >= 0", "False",
           "laws/test_convolution.py"),
    Mutant("indices of an older image", "connections/conv.py", "pooled=replace(self, pooled=None)._pool(a)",
           "pooled=self._pool(a)", ORDER),
    Mutant("softmax pooling: slope of p missing", "connections/pooling.py", "p * (1 + z - pooled.unsqueeze(-1))", "p",
           "laws/test_convolution.py"),
    Mutant("batched: contrast of the neighbor", "connections/batched.py", "_pairings(self._split(free.post),",
           "_pairings(self._split(b.post),", "reference/test_batched_models.py"),
]
SOLVERS = [
    Mutant("stops at the first settled sample", "solvers/settle.py", "residual(before, after).max()",
           "residual(before, after).min()", SETTLE),
    Mutant("groups in reverse order", "solvers/schedules.py", "for group in groups:", "for group in groups[::-1]:",
           SWEEPS),
    Mutant("Anderson: sign of the mixing", "solvers/anderson.py", "self.dg, alpha=-1)", "self.dg)", ANDERSON),
    Mutant("Anderson: no safeguard", "solvers/anderson.py", "~history.valid.any(1) | (", "(_norm(f) >= 0) | (",
           ANDERSON),
    Mutant("Anderson: history kept after a rejection", "solvers/anderson.py",
           "self.valid.logical_and_(accepted[:, None])", "accepted[:, None]", "reference/test_anderson.py"),
]
THEOREM = [
    Mutant("increments without dt", "theorem/increments.py", "/ (beta * dt)", "/ beta", "theorems/test_gdu.py"),
    Mutant("increments of parameters with the gradient's sign", "theorem/increments.py",
           "torch.neg(grad, out=into[t])", "into[t].copy_(grad)", "theorems/test_gdu.py"),
    Mutant("backward pass at the later state", "theorem/gradients.py", "reversed(trajectory[:-1])",
           "reversed(trajectory[1:])", "theorems/test_gdu_processes.py"),
]
SPIKING = [
    Mutant("residual of the coder dropped", "spiking/coders.py", "return q, phi.sub_(q)",
           "return q, torch.zeros_like(phi)", "laws/test_coders.py"),
    Mutant("decoder with the next step size", "spiking/dynamics.py", "lam = step_size_at(self.lam, tick)",
           "lam = step_size_at(self.lam, tick + 1)", "reference/test_spiking.py"),
    Mutant("ticks restart in the nudged phase", "spiking/dynamics.py", "tick = state.tick + 1",
           "tick = 1 if force is not None else state.tick + 1", "reference/test_spiking.py"),
]
TRAINING = [
    Mutant("optimizer not restored", "training/trainer.py",
           'checkpoint.load_optimizer(self.optimizer, state, state["optimizer"])', "pass", "training/test_resume.py"),
    Mutant("scheduler not restored", "training/trainer.py",
           'checkpoint.load_scheduler(self.scheduler, state["scheduler"])', "pass", "training/test_resume.py"),
    Mutant("random state not restored", "training/trainer.py", 'self.generator.set_state(state["random.estimator"])',
           "pass", "training/test_resume.py"),
    Mutant("rates from the output", "estimators/rates.py", "zip(owners, rates,", "zip(owners, rates[::-1],",
           "training/test_optimizer_choices.py"),
    Mutant("best epoch by the test error", "training/history.py", 'part = "validation" if', 'part = "test" if',
           "training/test_trainer.py"),
    Mutant("mean over processes, not over samples", "training/distributed/gloo.py", "else p.grad * weight",
           "else p.grad / self.size", "training/test_parallel.py"),
    Mutant("one seed's costs for another", "training/seeds.py", "BatchResult(costs[place], parts[place],",
           "BatchResult(costs[place - 1], parts[place],", "training/test_seeds.py"),
]
RIGHT_OR_REFUSED = [
    Mutant("overrides ignored", "_core/derived.py", "return next(overrides, None) is None", "return True",
           "overrides/test_connections.py"),
    Mutant("contradicting connection accepted", "network.py", "(fault := broken_law(connection, shapes, like))",
           "(fault := None)", "overrides/test_connections.py"),
    Mutant("contradicting cost accepted", "costs.py", "if not tensors_agree(force, Cost.force(cost, out, y)):", "if False:",
           "overrides/test_costs.py"),
    Mutant("targets smoothed twice", "costs.py", "return y if y.is_floating_point() else self.target(y, out)",
           "return self.target(y, out)", "overrides/test_costs.py"),
    Mutant("weights of another configuration accepted", "training/run_folder.py", "isinstance(written, str) and not",
           "False and not", "training/test_wrong_weights.py"),
    Mutant("diverged weights kept", "training/trainer.py", "or not self._has_finite_cost()", "or False",
           "training/test_wrong_weights.py"),
    Mutant("damaged rows accepted", "training/history.py", "return all(_is_valid(name, value)",
           "return True or all(_is_valid(name, value)", "training/test_wrong_weights.py"),
    Mutant("jumps not seen", "estimators/response.py", "FARTHER = 2.5", "FARTHER = 1e9", "theorems/test_response.py"),
    Mutant("alternation not seen", "estimators/response.py", "if self.residual > max(self.distance, self.eps):", "if False:",
           "theorems/test_response.py"),
    Mutant("missing runs not created", "cli/layout.py", "if not _missing(top, manifest, folder):", "if True:",
           "cli/test_layout.py"),
]
DATA = [
    Mutant("held-out samples not removed", "data/split.py", "return (x[~held_out], y[~held_out]),", "return (x, y),",
           "data/test_batches.py"),
    Mutant("validation from the test set", "training/dataset.py", "hold_out(train, data.validation)",
           "hold_out(test, data.validation)", "training/test_session.py"),
    Mutant("evaluation with augmentation", "cli/commands/evaluate.py", ", augment=None)", ")",
           "training/test_augment.py"),
    Mutant("checksum not compared", "data/files.py", "found := hashlib.sha256(content).hexdigest()) != file.sha256",
           "found := file.sha256) != file.sha256", "data/test_locations.py"),
    Mutant("classes above 9 accepted", "data/formats.py", "(largest := classes.max()) >= CIFAR_CLASSES",
           "(largest := classes.max()) > 255", "data/test_formats.py"),
    Mutant("same shifts in every epoch", "data/batches.py", "self._generator(n, MOVES)", "self._generator(0, MOVES)",
           "data/test_augment.py"),
    Mutant("border at 0 after normalization", "data/batches.py", "self.x.new_tensor(self.black)",
           "self.x.new_zeros(len(self.black))", "data/test_augment.py"),
]
# fmt: on

MUTANTS = [
    *ESTIMATORS,
    *CONTINUAL_EP,
    *DYNAMICS,
    *CONNECTIONS,
    *SOLVERS,
    *THEOREM,
    *SPIKING,
    *TRAINING,
    *RIGHT_OR_REFUSED,
    *DATA,
]


def problem(mutant: Mutant) -> str | None:
    """Return why a fault cannot be injected, or None."""
    path = PACKAGE / mutant.file
    if not path.is_file():
        return f"src/eqprop/{mutant.file} does not exist"
    if missing := [test for test in mutant.tests.split() if not (ROOT / "tests" / test).exists()]:
        return f"tests/{missing[0]} does not exist"
    count = path.read_text().count(mutant.old)
    return None if count == 1 else f"mutant text found {count} times in src/eqprop/{mutant.file}: {mutant.old!r}"


def run_tests(mutant: Mutant) -> tuple[bool, str]:
    """Return whether the tests fail on the changed package, and the line that says so."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "eqprop"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        changed = package / mutant.file
        changed.write_text(changed.read_text().replace(mutant.old, mutant.new))
        # pytest puts `pythonpath` first, so it must name the copy and not src; child processes of tests use PYTHONPATH
        paths = f"pythonpath={folder} tests tools"
        command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", paths]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        tests = [f"tests/{test}" for test in mutant.tests.split()]
        try:
            run = subprocess.run(
                [*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired:
            return True, f"no result after {TIMEOUT} s"
    if run.returncode not in (0, 1):
        raise RuntimeError(f"{mutant.name!r}: the tests did not run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    lines = run.stdout.splitlines() or [""]
    return run.returncode == 1, next((line for line in lines if line.startswith("FAILED")), lines[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description="Inject one fault at a time; the named tests must fail.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only faults whose name contains one of these words")
    parser.add_argument("--jobs", type=int, default=2, help="faults to test in parallel (default: 2)")
    parser.add_argument("--list", action="store_true", help="only check that every fault fits the code")
    options = parser.parse_args()
    mutants = [m for m in MUTANTS if not options.words or any(word in m.name for word in options.words)]
    problems = [f"{m.name}: {text}" for m in mutants if (text := problem(m))]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    if problems or options.list:
        print(f"{len(mutants) - len(problems)} of {len(mutants)} faults fit the code")
        return 2 if problems else 0
    survivors = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutant, (is_caught, line) in zip(mutants, pool.map(run_tests, mutants), strict=True):
            print(f"{'caught  ' if is_caught else 'SURVIVED'}  {mutant.file}: {mutant.name}  ({line})", flush=True)
            if not is_caught:
                survivors.append(mutant)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} faults caught")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
