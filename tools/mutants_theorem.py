"""Faults in the comparison of EP's increments with BPTT's gradients."""

from mutant import Mutant

__all__ = ["THEOREM"]

PROCESSES, BREAKS, MEASURES, PHASES, SAME = (
    f"theorems/test_gdu_{name}.py" for name in ("processes", "breaks", "report", "phases", "untouched")
)
AT_WORK, SUMS = (
    "theorems/test_gdu.py::test_every_increment_is_minus_the_gradient_of_its_step",
    "theorems/test_gdu_sums.py",
)
ONE_SIDED, READOUT = f"{PROCESSES}::test_one_sided", f"{PROCESSES}::test_with_a_readout"
AGAINST = f"{PROCESSES}::test_what_neurons_are_held_against"
CENTRED, ORDER = (
    f"{PROCESSES}::test_centred_is_the_mean_of_both_sides",
    "theorems/test_gdu.py::test_centred_increments_gain_an_order",
)
SOUND = "theorems/test_gdu.py::test_where_it_holds_no_assumption_is_broken"
INC, GRAD, CMP, ASM, REP, PRO = (
    f"theorem/{name}.py" for name in ("increments", "gradients", "comparison", "assumptions", "report", "process")
)

INCREMENTS = [
    Mutant("dt forgotten in the increments", INC, "path[:-1]) / (beta * dt)", "path[:-1]) / beta", AT_WORK),
    Mutant("1 / beta dropped from the increments", INC, "path[:-1]) / (beta * dt)", "path[:-1]) / dt", AT_WORK),
    Mutant("sign of a parameter's increment", INC, "torch.neg(grad, out=into[t])", "into[t].copy_(grad)", AT_WORK),
    Mutant(
        "phases added, not averaged", INC, "torch.stack(of_phases).mean(0)", "torch.stack(of_phases).sum(0)", CENTRED
    ),
    Mutant("contrasts added, not averaged", INC, "len(moves) * m.beta)", "m.beta)", CENTRED),
    Mutant(
        "increments from the first state on",
        INC,
        "free.activity, path[t], path[t + 1])",
        "free.activity, path[0], path[t + 1])",
        SUMS,
    ),
    Mutant("increments with the raw input", INC, "given = model.dynamics.encode(network, x)", "given = x", ONE_SIDED),
    Mutant(
        "increments by the activities of the step before",
        INC,
        "model.dynamics.activity(network, s) for s in states]",
        "model.dynamics.activity(network, s) for s in (states[0], *states[:-1])]",
        ONE_SIDED,
    ),
    Mutant("centred in name only", CMP, "strengths(nudging, beta, None)", "strengths('one-sided', beta, None)", ORDER),
]

GRADIENTS = [
    Mutant(
        "a later step's state in the backward pass",
        GRAD,
        "reversed(trajectory[:-1])",
        "reversed(trajectory[1:])",
        ONE_SIDED,
    ),
    Mutant(
        "drive of the input detached",
        GRAD,
        "with torch.enable_grad():\n        drive",
        "with torch.no_grad():\n        drive",
        AT_WORK,
    ),
    Mutant("gradients of the sum", GRAD, "name: grad / len(x) + ", "name: grad + ", AT_WORK),
    Mutant("readout counted at every step", GRAD, "readout.pop(name, 0.0)", "readout.get(name, 0.0)", READOUT),
    Mutant("readout's increment forgotten", CMP, "parameters[name][0] -= grad", "pass", READOUT),
    Mutant("nothing goes back", GRAD, "slopes = back[: len(state)]", "slopes = slopes + back[:0]", AT_WORK),
    Mutant("frozen parameters counted in", GRAD, "named_parameters() if p.requires_grad}", "named_parameters()}", SAME),
    Mutant("slopes of the state that a step makes", CMP, "reversed(states[:-1])]", "reversed(states[1:])]", ONE_SIDED),
    Mutant("slopes left out", CMP, "if duality.through else gradient.state", "if False else gradient.state", AT_WORK),
    Mutant("slopes at scaled currents", "dynamics.py", "u = [(v - r.shift) / r.gain for", "u = [v for", AT_WORK),
    Mutant(
        "outside nudge held against dL/du",
        "dynamics.py",
        'through=self.nudge == "inside" or',
        "through=True or",
        AGAINST,
    ),
    Mutant("duality without dt", "dynamics.py", "Duality(self.dt, tuple(", "Duality(1.0, tuple(", AT_WORK),
    Mutant("says dL/du of dL/ds", CMP, '"dL/du" if duality.through and any(', '"dL/du" if any(', AGAINST),
]

FREE_PHASE = [
    Mutant("last steps alone are told", CMP, "steps=taken + last, trajectory", "steps=last, trajectory", PHASES),
    Mutant("free phase in whole chunks", CMP, "else min(left, CHUNK))", "else CHUNK)", PHASES),
    Mutant("tolerance over the last steps too", CMP, "steps.fewer(taken + last)", "steps.fewer(taken)", PHASES),
    Mutant("more nudged than free steps", CMP, "if last > steps.steps:", "if last > steps.steps + 1:", PHASES),
    Mutant(
        "every free state kept",
        CMP,
        "drive, state, part)",
        "drive, state, part, trajectory=True)",
        f"{PHASES}::test_states_kept_do_not_grow_with_the_free_phase",
    ),
    Mutant("free motion without its scale", CMP, ".diff(dim=0) / (abs(beta) * duality.dt)", ".diff(dim=0)", PHASES),
    Mutant("inference tensors let in", CMP, "x = model.network.check_input(x).detach()", "pass", SAME),
    Mutant(
        "a target from inference let in", CMP, "target.clone() if target.is_inference() else target", "target", SAME
    ),
    Mutant("slopes under autocast", CMP, "with torch.no_grad(), full_precision(x):", "with torch.no_grad():", SAME),
]

ASSUMPTIONS = [
    Mutant(
        "J v compared with itself",
        ASM,
        "back = products(model, drive, state, v)[0]",
        "back = products(model, drive, state, v)[1]",
        BREAKS,
    ),
    Mutant(
        "symmetry without its slopes",
        ASM,
        "[d * v_n for d, v_n in zip(duality.slopes, v, strict=True)]",
        "v",
        SOUND,
    ),
    Mutant(
        "share of the sum of both norms", ASM, "return n / max(n, s, least) if n", "return n / (n + s) if n", MEASURES
    ),
    Mutant(
        "steadiness of single steps",
        ASM,
        "shares(moved, increments, least)",
        "shares([m * unit for m in moved], increments, least)",
        BREAKS,
    ),
    Mutant("alternation never told", ASM, "< 0.1 * (now", "< 0.0 * (now", BREAKS),
    Mutant("alternation always told", ASM, "< 0.1 * (now", "< 10.0 * (now", BREAKS),
    Mutant(
        "parameters not looked at",
        ASM,
        "max(asymmetry(model, drive, duality, states[-1]), mispairing(model, x, duality, states[-1]))",
        "asymmetry(model, drive, duality, states[-1])",
        BREAKS,
    ),
    Mutant("parameters without dt", ASM, "apart(p, duality.dt * q)", "apart(p, q)", BREAKS),
    Mutant("best population named", ASM, "worst = max(", "worst = min(", BREAKS),
    Mutant(
        "any nudge is a force on the energy",
        ASM,
        "    holds = duality.through\n",
        "    holds = True\n",
        BREAKS,
    ),
    Mutant(
        "precision of doubles", ASM, "torch.finfo(increments[0].dtype).eps", "torch.finfo(torch.double).eps", BREAKS
    ),
    Mutant("round-off not divided by beta", ASM, "s.expand_as(d) / unit * bool", "s.expand_as(d) * bool", BREAKS),
]

MEASURED = [
    Mutant("floor ignored", PRO, ".sqrt_().clamp_min_(floor)", ".sqrt_()", MEASURES),
    Mutant("error relative to EP alone", PRO, "torch.maximum(ep, bptt)", "(ep + 0 * bptt)", MEASURES),
    Mutant("difference for sum", PRO, "d = e + b", "d = e - b", MEASURES),
    Mutant(
        "later steps of EP alone",
        PRO,
        "self.ep[t:], self.bptt[t:]",
        "self.ep[t:], self.bptt[: len(self.bptt) - t]",
        MEASURES,
    ),
    Mutant("zeros agree", PRO, "- zeros) / (n - zeros)", ") / n", MEASURES),
    Mutant("cosine to the gradient itself", PRO, "[*-self.bptt]", "[*self.bptt]", MEASURES),
    Mutant("two zeros at right angles", "angles.py", "return 0.0 if a2 == b2 else 90.0", "return 90.0", MEASURES),
    Mutant("mask off by one", REP, "distance * mask)", "(distance - 1) * mask)", MEASURES),
    Mutant(
        "first step counted all the same", REP, "process.since(int(not first)) for name", "process for name", MEASURES
    ),
    Mutant("samples not averaged first", REP, "process.batch_mean().since(", "process.since(", MEASURES),
    Mutant("sums forgotten", PRO, "self.running() if accumulated else", "self.running() if False else", MEASURES),
    Mutant("biases in the angle", REP, "process.ep.dim() > 2", "process.ep.dim() > 1", MEASURES),
    Mutant("readout in the angle", REP, 'name.startswith("network.") and', "", MEASURES),
    Mutant("nudge that travels through the input", REP, "if 0 not in ends and front", "if front", MEASURES),
    Mutant(
        "parallel edges of one name", "network.py", "self.ends.count(ends) > 1", "self.ends.count(ends) > 9", MEASURES
    ),
]

THEOREM = [*INCREMENTS, *GRADIENTS, *FREE_PHASE, *ASSUMPTIONS, *MEASURED]
