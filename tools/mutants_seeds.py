"""Faults in seeds at once: networks side by side, trainings in step."""

from mutant import Mutant

__all__ = ["SEEDS"]

CORE, RUNS, CLI = "reference/test_replicas.py", "training/test_training_seeds.py", "training/test_cli_seeds.py"
SIDE, NET, STEP, FOLDERS = "replicas.py", "network.py", "training/lockstep.py", "training/seeds.py"

SEEDS = [
    Mutant("samples of the wrong replica", NET, "if x.shape[0] % self._multiple:", "if False:", CORE),
    Mutant("batches interleaved", SIDE, "batch // self.multiple, 0)", "1, 0).repeat(batch // self.multiple, 1)", CORE),
    Mutant(
        "wires not repeated for both nudges", NET, "tuple(wire.repeat(n) for wire in self.wires)", "self.wires", CORE
    ),
    Mutant(
        "weights repeated one by one", SIDE, "up=self.up.repeat(n, 1, 1)", "up=self.up.repeat_interleave(n, 0)", CORE
    ),
    Mutant("feedback of the tied", SIDE, "down = up if feedback[0] is forward[0] else", "down = up if True else", CORE),
    Mutant("gain of the wrong end", SIDE, "gains[pre], gains[post])", "gains[post], gains[pre])", CORE),
    Mutant("gain upwards forgotten", SIDE, "self.up, self.gain_post)", "self.up, 1.0)", CORE),
    Mutant("gain downwards forgotten", SIDE, "self.down, self.gain_pre)", "self.down, 1.0)", CORE),
    Mutant("untied contrast as tied", SIDE, "if feedback[0] is not forward[0]:", "if False:", CORE),
    Mutant(
        "untied u at another state",
        SIDE,
        "self._parts(free.post), self._parts(a",
        "self._parts(b.post), self._parts(a",
        CORE,
    ),
    Mutant(
        "half of the contrast",
        SIDE,
        "left = torch.cat([step, self._parts(b.post)], 1)",
        "left = torch.cat([step, 0 * step], 1)",
        CORE,
    ),
    Mutant(
        "bias gradient of the joint batch",
        SIDE,
        "(step.sum(1) * slopes[0])",
        "(step.sum(1).sum(0).expand(n, -1) * slopes[0])",
        CORE,
    ),
    Mutant("slope forgotten", SIDE, "left, n = left * slopes[0], len(left)", "left, n = left * 1, len(left)", CORE),
    Mutant("slope of biases forgotten", SIDE, "(step.sum(1) * slopes[0])", "(step.sum(1))", CORE),
    Mutant(
        "side by side, input without its gradient",
        SIDE,
        "if ctx.needs_input_grad[1] else None",
        "if False else None",
        CORE,
    ),
    Mutant("other sizes let through", SIDE, "if len(kinds) != 1 or", "if", CORE),
    Mutant("other models let through", SIDE, "if traits(model) != traits(first):", "if False:", CORE),
    Mutant("mean over all seeds", STEP, "(self.size * loss).backward()", "loss.backward()", RUNS),
    Mutant("gradients of two batches", STEP, "self.trainers[place].optimizer.zero_grad()", "pass", RUNS),
    Mutant(
        "costs of the neighbour",
        STEP,
        "Learned(costs[place], parts[place])",
        "Learned(costs[place - 1], parts[place])",
        RUNS,
    ),
    Mutant(
        "free phase of the neighbour",
        STEP,
        "Learned(costs[place], parts[place])",
        "Learned(costs[place], parts[place - 1])",
        RUNS,
    ),
    Mutant(
        "one that diverges ends all",
        STEP,
        "except (FloatingPointError, Interrupted) as stop:",
        "except Interrupted as stop:",
        RUNS,
    ),
    Mutant("all found out alone", STEP, "else self._apart(alike)", "else dict.fromkeys(alike)", RUNS),
    Mutant(
        "a signal ends all at once",
        STEP,
        "except (FloatingPointError, Interrupted) as stop:",
        "except FloatingPointError as stop:",
        RUNS,
    ),
    Mutant("a signal forgotten", STEP, "if isinstance(outcome, Interrupted):", "if False:", RUNS),
    Mutant("folders held", STEP, "lane.training.close()", "pass", RUNS),
    Mutant("one stream for all", FOLDERS, "Aside(run.seed, REST))", "Aside(0, REST))", RUNS),
    Mutant(
        "begun again",
        FOLDERS,
        "go = trainer.resuming if place.begun else trainer.fitting",
        "go = trainer.fitting",
        RUNS,
    ),
    Mutant(
        "finished ones lose their place",
        STEP,
        "crew = Crew({place: lane.trainer for place, lane in there.items()}, len(lanes), spare)",
        "there = dict(enumerate(there.values()))\n"
        "    crew = Crew({place: lane.trainer for place, lane in there.items()}, len(there), spare)",
        RUNS,
    ),
    Mutant("tolerance let through", STEP, "and steps.tol is not None", "and False", RUNS),
    Mutant(
        "noise let through",
        STEP,
        "if type(run.model.dynamics) not in (Prototypical, EnergyDescent):",
        "if False:",
        RUNS,
    ),
    Mutant(
        "torchrun let through",
        "cli/study.py",
        "if processes.size > 1 else None",
        "if False else None",
        CLI,
    ),
    Mutant("the second to diverge unnamed", "cli/study.py", "[*lost.items()][1:]", "[*lost.items()][2:]", CLI),
    Mutant("bar of one alone", "training/shared_bar.py", "sum(part.done for part in self.parts)", "self.done", CLI),
]
