"""Faults in continual EP, in weights that move within a phase, and in what trains with them."""

from mutant import Mutant

__all__ = ["CONTINUAL"]

REFERENCE, THEOREM = "reference/test_continual.py", "theorems/test_continual.py"
TRAINING, ERRORS = "training/test_continual.py", "training/test_errors.py"
RECIPES, RUNS, CLI = "training/test_training_recipes.py", "training/test_training_runs.py", "training/test_cli_runs.py"
MISTAKES = "training/test_cli_mistakes.py"
ONE_RULE = f"{THEOREM}::test_the_two_estimators_are_one_rule"
ANY_NETWORK = f"{THEOREM}::test_they_are_for_networks_of_any_kind"
ANY_CONNECTION = f"{THEOREM}::test_they_are_for_connections_of_any_kind"
AUTOCAST = f"{THEOREM}::test_phases_run_in_full_precision_under_autocast"
EP, SGD, PLASTIC = "estimators/continual.py", "estimators/continual_sgd.py", "plastic.py"

CONTINUAL = [
    Mutant(
        "stale drive", EP, "drive = phase.repeat(model.dynamics.prepare(model.network, x))", "drive = drive", REFERENCE
    ),
    Mutant("increments against the free state", EP, "            before = after\n", "", REFERENCE),
    Mutant(
        "every step from the free state",
        EP,
        "state = phase.step(drive, state)",
        "state = phase.step(drive, phase.start())",
        REFERENCE,
    ),
    Mutant("1 / beta dropped from increments", EP, "return self.betas[-1]", "return 1.0", REFERENCE),
    Mutant(
        "sum of the two trajectories, not mean",
        EP,
        "return self.betas[-1]",
        "return self.betas[-1] / len(self.betas)",
        REFERENCE,
    ),
    Mutant(
        "both trajectories with the sign of the first",
        EP,
        "return torch.cat([after_minus, before_plus]), torch.cat([before_minus, after_plus])",
        "return before, after",
        REFERENCE,
    ),
    Mutant(
        "both trajectories at beta",
        EP,
        "for beta in betas])\n        force",
        "for beta in betas[-1:] * n])\n        force",
        REFERENCE,
    ),
    Mutant("pre at the new time", EP, "Compared(before, before, after,", "Compared(after, before, after,", REFERENCE),
    Mutant(
        "pre at the new time, centred", EP, "return Compared(before, a, b,", "return Compared(after, a, b,", REFERENCE
    ),
    Mutant("readout's gradient K times", EP, "phase.cost() if last else value", "phase.cost()", REFERENCE),
    Mutant("readout's gradient never", EP, "phase.cost() if last else value", "value", REFERENCE),
    Mutant("losses that no frozen network can have", EP, "if surrogate.requires_grad or last:", "if True:", THEOREM),
    Mutant("step under autocast", EP, "with full_precision(drive.input):", "if True:", AUTOCAST),
    Mutant("input's gradient is lost", EP, "if x.requires_grad:", "if False:", ERRORS),
    Mutant("states that are not finite", EP, "if finite(*states[-1]):", "if True:", ERRORS),
    Mutant(
        "tolerance of a phase on the move",
        EP,
        'positive_int("nudged_steps", nudged_steps)',
        'as_settle("nudged_steps", nudged_steps)',
        ERRORS,
    ),
    Mutant("Gram term dropped", PLASTIC, ".addmm_(x, x.t(),", ".addmm_(0 * x, x.t(),", REFERENCE),
    Mutant(
        "bias dropped from the drive",
        PLASTIC,
        ".sub_(drive.gains[post - 1] * c * rates.get(bias, 0.0))",
        ".sub_(0.0)",
        REFERENCE,
    ),
    Mutant("gain dropped from the Gram term", PLASTIC, "alpha=-drive.gains[post - 1] * c", "alpha=-c", ONE_RULE),
    Mutant("gain dropped from the bias", PLASTIC, ".sub_(drive.gains[post - 1] * c", ".sub_(c", ONE_RULE),
    Mutant("moves by the sum over the batch", PLASTIC, "1 / (norm * drive.input.shape[0])", "1 / norm", REFERENCE),
    Mutant("sum over the batch of all steps", PLASTIC, "/ (whole.norm * x.shape[0])", "/ whole.norm", REFERENCE),
    Mutant("hidden weights that rest", PLASTIC, "wire.moved(*step.ends(x, *between), sizes)", "wire", REFERENCE),
    Mutant("constant currents that rest", PLASTIC, "torch.addmm(u, kernel, a - b)", "u", REFERENCE),
    Mutant(
        "untied weights telescoped", PLASTIC, "if pre == 0 or isinstance(connection, Dense):", "if True:", REFERENCE
    ),
    Mutant(
        "rate of the forward weights for both",
        PLASTIC,
        "c * rates.get(feedback, 0.0)",
        "c * rates.get(weight, 0.0)",
        ANY_NETWORK,
    ),
    Mutant("shared weights taken for two", PLASTIC, " and len(weights) == len(set(weights))", "", ANY_NETWORK),
    Mutant(
        "a user's own kind of dense taken for Dense",
        PLASTIC,
        "kinds <= {Dense}",
        "all(issubclass(kind, Dense) for kind in kinds)",
        ANY_NETWORK,
    ),
    Mutant(
        "moves under autocast",
        PLASTIC,
        "        with full_precision(x):\n            constant",
        "        if True:\n            constant",
        AUTOCAST,
    ),
    Mutant(
        "tied wire moves up the gradient",
        "dense.py",
        "right, alpha=-sizes[0]",
        "right, alpha=sizes[0]",
        REFERENCE,
    ),
    Mutant("feedback weights that rest", "dense.py", "alpha=-sizes[1]", "alpha=0.0", REFERENCE),
    Mutant(
        "forward weights that rest",
        "dense.py",
        "(a.post - b.post).t(), free.pre, alpha=-sizes[0]",
        "(a.post - b.post).t(), free.pre, alpha=0.0",
        REFERENCE,
    ),
    Mutant(
        "forward weights from the later pre",
        "dense.py",
        "(a.post - b.post).t(), free.pre",
        "(a.post - b.post).t(), b.pre",
        REFERENCE,
    ),
    Mutant(
        "first move left out",
        SGD,
        "weights.moved(steps[-1]) if steps",
        "weights.moved(steps[-1]) if len(steps) > 1",
        REFERENCE,
    ),
    Mutant("moves along the first step", SGD, "weights.moved(steps[-1])", "weights.moved(steps[0])", REFERENCE),
    Mutant(
        "frozen weights move",
        SGD,
        "for p, rate in rates.items() if p.requires_grad",
        "for p, rate in rates.items()",
        ANY_NETWORK,
    ),
    Mutant("copy that rests", SGD, "alpha=rates.get(p, 0.0)", "alpha=0.0", ANY_CONNECTION),
    Mutant(
        "model moved in the place of its copy",
        SGD,
        "copy.deepcopy(model)",
        "model",
        f"{THEOREM}::test_nothing_moves_before_the_optimiser",
    ),
    Mutant(
        "last increment in the place of their sum",
        SGD,
        "sums[p].add_(gradient)",
        "sums[p].copy_(gradient)",
        ANY_CONNECTION,
    ),
    Mutant(
        "copies' increments under autocast",
        SGD,
        "with full_precision(x), torch.no_grad():",
        "with torch.no_grad():",
        AUTOCAST,
    ),
    Mutant(
        "a schedule is not followed", SGD, 'float(group["lr"])', 'float(group.get("initial_lr", group["lr"]))', TRAINING
    ),
    Mutant(
        "rates of an optimiser that is no plain SGD", SGD, "if type(optimizer) is not SGD or any(", "if any(", TRAINING
    ),
    Mutant("rates of SGD with momentum", SGD, 'NOT_PLAIN = ("momentum", ', "NOT_PLAIN = (", TRAINING),
    Mutant(
        "optimiser not handed on", "training/trainer.py", "bound(estimator, model, optimizer)", "estimator", TRAINING
    ),
    Mutant(
        "a run that does not fit is begun",
        "training/session.py",
        "bound(run.estimator, model, run.optimiser.build(model))",
        "run.optimiser.build(model)",
        MISTAKES,
    ),
    Mutant("vector-field runs called EP", "training/run.py", 'getattr(self.model, "tied", True)', "True", RUNS),
    Mutant("continual runs called one-shot", "training/run.py", 'return f"C-{rule}"', "return rule", RUNS),
    Mutant(
        "figures of every angle",
        "recipes/__init__.py",
        "(p.recipe, p.method, p.angle) == (run.name, method, angle)",
        "(p.recipe, p.method) == (run.name, method)",
        RECIPES,
    ),
    Mutant("nudging lost by a word", "cli/swap.py", "now.beta, nudging=now.nudging", "now.beta", CLI),
]
