"""Random calls of the API: a gradient that comes back is right by an independent reference, all else is one clear error."""

from random import Random

import torch

import eqprop as ep
import zoo
from attack.case import Case, Fault
from eqprop.theorem.gradients import trainable_parameters

ALLOWED = (ValueError, TypeError, FloatingPointError)


def gradient(estimator, model, x, y):
    """Return the summed gradient of all losses, by parameter."""
    total = {name: torch.zeros_like(p) for name, p in trainable_parameters(model).items()}
    for loss in estimator(model, x, y):
        found = torch.autograd.grad(
            loss, list(trainable_parameters(model).values()), allow_unused=True, materialize_grads=True
        )
        for name, g in zip(total, found, strict=True):
            total[name] += g
    return torch.cat([g.flatten() for g in total.values()])


def random_estimator(rng: Random, free: int, nudged: int):
    """Return an estimator with these steps, and whether its gradient is linear in the batch."""
    nudging, beta = rng.choice(["one-sided", "centred"]), rng.choice([0.5, 0.1, -0.1, 1e-2, 1e-4])
    schedule = rng.choice([ep.Synchronous(), ep.Synchronous(), ep.Asynchronous()])
    steps = [ep.Settle(n, schedule=schedule) for n in (free, nudged)]
    return rng.choice(
        [
            ep.EquilibriumProp(*steps, beta, nudging),
            ep.EquilibriumProp(*steps, beta, nudging),
            ep.ContinualSGD(free, nudged, beta, 0.0, nudging),
            ep.BPTT(free, nudged),
            ep.ImplicitDiff(free, nudged),
        ]
    )


def gradient_case(rng: Random) -> Case:
    """Compare the gradient of a batch with the mean over its samples, and with that of the batch in another order and layout."""
    name, cost = rng.choice(list(zoo.GRAPHS)), rng.choice(["squared", "readout"])
    dynamics = rng.choice(
        [ep.Prototypical(), ep.Prototypical("inside"), ep.EnergyDescent(dt=rng.choice([0.2, 0.5, 1.0]))]
    )
    seed, free = rng.randrange(10**6), rng.choice([1, 2, 5, 12])
    estimator = random_estimator(rng, free, rng.choice([1, min(2, free), min(5, free)]))
    how = f"zoo.model({name!r}, {dynamics!r}, {cost!r}, seed={seed}), {estimator!r}"

    def run() -> None:
        model = zoo.model(name, dynamics, cost, seed)
        x, y = zoo.batch(model, seed)
        try:
            whole = gradient(estimator, model, x, y)
        except ALLOWED as error:
            return check_message(error)
        parts = [gradient(estimator, model, x[n : n + 1], y[n : n + 1]) for n in range(len(x))]
        classes = model.cost.width(model.network.populations[-1].shape)
        order = torch.arange(len(x) - 1, -1, -1)
        others = {
            "the mean over its samples": sum(parts) / len(parts),
            "the same in another order": gradient(estimator, model, x[order], y[order]),
            "the same with one-hot targets": gradient(
                estimator, model, x, torch.nn.functional.one_hot(y, classes).double()
            ),
            "the same, not contiguous": gradient(estimator, model, torch.stack([x, x], -1)[..., 0], y),
        }
        for what, other in others.items():
            if (whole - other).norm() > 1e-6 * max(whole.norm().item(), other.norm().item(), 1e-3):
                raise Fault(f"the gradient differs from {what}: {(whole - other).norm():.2e} of {whole.norm():.2e}")
        return None

    return Case(how, run)


def check_message(error: Exception) -> None:
    """Raise Fault unless an error says something in one line."""
    text = str(error)
    if not 15 <= len(text) <= 600 or "\n" in text.strip():
        raise Fault(f"an unclear error: {type(error).__name__}: {text!r}")


class Odd:
    """An object of a class that nothing knows."""


HOSTILE = [
    None, True, False, 0, 1, -1, 2.5, -0.5, float("nan"), float("inf"), 10**30, "", "x", "tanh", b"x", [], (), {}, [None],
    ["x"], (1,), {1}, object(), Odd, Odd(), torch.tensor(1.0), torch.tensor([1, 2]), torch.rand(2, 4),
    torch.zeros(2, 4, dtype=torch.float16), torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4, device="meta"),
    torch.zeros(2, 4, dtype=torch.complex64), torch.tensor([0.0, float("nan")]), torch.zeros(2, 4).to_sparse(),
    torch.tensor([0, 1], dtype=torch.uint16), torch.zeros(0, 4),
    torch.nn.Linear(4, 3), 1 + 2j, range(3), torch.float32,
]  # fmt: skip


def _targets() -> dict[str, tuple[object, dict[str, object]]]:
    """Return callables with well-formed arguments."""
    model = ep.mlp([4, 5, 3])
    x, y = torch.rand(2, 4), torch.tensor([0, 1])

    def train(model, x, y, free_steps, nudged_steps, beta, nudging):
        for loss in ep.EquilibriumProp(free_steps, nudged_steps, beta, nudging)(model, x, y):
            loss.backward()

    parts = {"dynamics": ep.Prototypical(), "cost": ep.SquaredError(), "settle": 5}
    steps = {"free_steps": 5, "nudged_steps": 3, "beta": 0.1}
    return {
        "ep.mlp": (ep.mlp, {"sizes": [4, 5, 3], "activation": "tanh"} | parts),
        "ep.Dense": (ep.Dense, {"n_pre": 3, "n_post": 2}),
        "ep.Conv2d": (ep.Conv2d, {"c_pre": 1, "c_post": 2, "kernel_size": 3, "stride": 1, "padding": 0, "pool": None}),
        "ep.Network": (
            ep.Network,
            {"populations": [ep.Population(4), ep.Population(3)], "edges": [(0, 1, ep.Dense(4, 3))]},
        ),
        "ep.Model": (ep.Model, {"network": model.network} | parts),
        "ep.Settle": (ep.Settle, {"steps": 5, "tol": None, "schedule": ep.Synchronous(), "average": 1}),
        "ep.EnergyDescent": (ep.EnergyDescent, {"dt": 0.2, "clamp": True}),
        "ep.EquilibriumProp(...)(...)": (train, {"model": model, "x": x, "y": y, "nudging": "centred"} | steps),
        "ep.ContinualEP": (ep.ContinualEP, steps),
        "ep.ContinualSGD": (ep.ContinualSGD, {"rates": 0.1} | steps),
        "ep.BPTT": (ep.BPTT, {"free_steps": 5, "unrolled_steps": 3}),
        "ep.relax": (ep.relax, {"model": model, "x": x, "steps": 5, "y": y, "beta": 0.1}),
        "ep.gdu": (ep.gdu, {"model": model, "x": x, "y": y} | steps),
        "ep.Spiking": (ep.Spiking, {"eps": 0.5, "lam": 0.2, "input": "spikes", "decode": "after"}),
        "ep.Equilibrium": (ep.Equilibrium, {"network": model.network, "dynamics": ep.Prototypical()} | steps),
    }


def argument_case(rng: Random) -> Case:
    """Call something public with one or two hostile arguments."""
    targets = _targets()
    name = rng.choice(list(targets))
    function, arguments = targets[name]
    changed = dict(arguments)
    for key in rng.sample(list(arguments), rng.choice([1, 1, 2])):
        changed[key] = rng.choice(HOSTILE)
    said = ", ".join(f"{key}={value!r}" for key, value in changed.items() if value is not arguments[key])

    def run() -> None:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                function(**changed)  # type: ignore[operator]
            except ALLOWED as error:
                check_message(error)

    return Case(f"{name} with {said}"[:300], run)
