"""A run goes into a file and comes back the same; what is wrong with it is said at once, and no class but its own is made."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

import eqprop as ep
from eqprop.activations import ACTIVATIONS
from eqprop.spiking import OSA, Bernoulli, Decay
from eqprop.training import SGD, Adam, AdamW, Constant, Cosine, Data, QuantizedSGD, Run, StepDecay
from eqprop.training.config.run import CONFIG_CLASSES
from eqprop.training.config.serialization import decode, encode

MODELS = {
    "default": ep.MLP((64, 10)),
    "deep": ep.MLP([64, 12, 11, 10], "tanh", output_activation="identity", settle=25),
    "untied": ep.MLP((64, 12, 10), "sigmoid", dynamics=ep.Prototypical("inside"), tied=False, angle=22.5),
    "mismatched": ep.MLP((64, 12, 10), dynamics=ep.Noisy(ep.Prototypical("inside"), 0.1), mismatch=0.3),
    "energy": ep.MLP((64, 12, 10), dynamics=ep.EnergyDescent(dt=0.5, clamp=False, output_derivative=False)),
    "tolerance": ep.MLP((64, 10), settle=ep.Settle(50, tol=1e-3, check_every=2)),
    "readout": ep.MLP((64, 12), cost=ep.CrossEntropyReadout(12, 10)),
    "object": ep.MLP((64, 10), ACTIVATIONS["relu6"], ACTIVATIONS["tanh"]),
    "spiking": ep.MLP(
        (64, 12, 10), "hard_sigmoid", dynamics=ep.Spiking(eps=OSA(0.05), lam=Decay(1.0, 0.75), coder=Bernoulli())
    ),
    "toy": ep.Toy(64, 7, 10, settle=30),
    "toy readout": ep.Toy(64, 7, 6, "sigmoid", ep.Prototypical(), ep.CrossEntropyReadout(6, 10), ep.Settle(9, 0.1)),
}
ESTIMATORS = {
    "one-sided": ep.EquilibriumProp(20, 10, 0.1),
    "centred": ep.EquilibriumProp(ep.Settle(20, tol=1e-4), ep.Settle(10), -0.5, nudging="centred"),
    "random-sign": ep.EquilibriumProp(20, 10, 1, nudging="random-sign"),
    "continual": ep.ContinualEP(ep.Settle(20, tol=1e-4), 10, 0.1, "centred"),
    "continual SGD": ep.ContinualSGD(20, 10, 0.1),
    "continual SGD, own rates": ep.ContinualSGD(20, 10, 0.1, (0.02, 0.01), "random-sign"),
    "continual SGD, one rate": ep.ContinualSGD(20, 10, 0.1, 0),
    "bptt": ep.BPTT(20),
    "accelerated": ep.EquilibriumProp(ep.Settle(20, 1e-4, accelerate=ep.Anderson(2)), 10, 0.5),
    "truncated": ep.BPTT(ep.Settle(20, tol=1e-3), 11),
    "late mean": ep.EquilibriumProp(20, ep.Settle(10, average=3), 0.1, nudging="centred"),
    "surrogate": ep.BPTT(20, 11, surrogate=True),
    "implicit": ep.ImplicitDiff(20),
}
OPTIMISERS = {
    "sgd": SGD(0.1),
    "momentum": SGD([0.08, 0.04], momentum=0.9, weight_decay=1e-4),
    "adam": Adam((1e-3, 1e-4), betas=(0.8, 0.99), weight_decay=0.1),
    "adamw": AdamW(),
    "quantized": QuantizedSGD((0.1, 0.05), weight_bits=5, update_bits=4, span=2.0),
}
SCHEDULES = {"constant": Constant(), "cosine": Cosine(1e-5), "step": StepDecay(3, 0.5)}


def run(**changes) -> Run:
    parts = {"data": Data("digits"), "model": MODELS["default"], "estimator": ESTIMATORS["one-sided"]}
    return Run(**{"name": "mine", "optimizer": SGD(0.1)} | parts | changes)


@pytest.mark.parametrize("model", MODELS)
def test_every_combination_comes_back(model):
    for estimator, optimizer, schedule in product(ESTIMATORS.values(), OPTIMISERS.values(), SCHEDULES.values()):
        whole = run(model=MODELS[model], estimator=estimator, optimizer=optimizer, schedule=schedule, seed=7)
        again = Run.from_json(whole.to_json())
        assert again.to_json() == whole.to_json()
        assert (again.estimator, again.optimizer, again.schedule) == (estimator, optimizer, schedule)
        if (
            "readout" not in model and model != "object"
        ):  # modules and activations given as objects equal only themselves
            assert again == whole


@pytest.mark.parametrize("model", MODELS)
def test_what_comes_back_builds_the_same_model(model):
    whole = run(model=MODELS[model], seed=3)
    first, second = whole.build(), Run.from_json(whole.to_json()).build()
    assert first.settle == second.settle
    assert first.dynamics == second.dynamics
    assert str(first) == str(second)
    for (name, a), (other, b) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(a, b)


def test_the_file_is_readable():
    """Names of classes and fields, as a person would write them."""
    whole = run(
        model=ep.MLP((64, 12, 10), "tanh", dynamics=ep.EnergyDescent(dt=0.5), settle=ep.Settle(40, tol=0.01)),
        optimizer=SGD((0.1, 0.2)),
        data=Data("digits", 50, validation=100, root="/somewhere"),
        schedule=StepDecay(3),
    )
    assert json.loads(whole.to_json()) == {
        "type": "Run",
        "name": "mine",
        "data": {"type": "Data", "name": "digits", "batch_size": 50, "validation": 100},
        "model": {
            "type": "MLP",
            "sizes": [64, 12, 10],
            "activation": "tanh",
            "output_activation": None,
            "dynamics": {"type": "EnergyDescent", "dt": 0.5, "clamp": True, "output_derivative": True},
            "cost": {"type": "SquaredError"},
            "settle": {"type": "Settle", "steps": 40, "tol": 0.01, "check_every": 5},
            "tied": True,
            "angle": 0.0,
            "mismatch": 0.0,
        },
        "estimator": {
            "type": "EquilibriumProp",
            "free_steps": 20,
            "nudged_steps": 10,
            "beta": 0.1,
            "nudging": "one-sided",
        },
        "optimizer": {"type": "SGD", "rates": [0.1, 0.2], "momentum": 0.0, "weight_decay": 0.0},
        "schedule": {"type": "StepDecay", "every": 3, "factor": 0.1},
        "epochs": 30,
        "seed": 0,
        "threads": 1,
    }


def test_a_data_root_stays_on_its_machine():
    whole = run(data=Data("digits", root="/a/folder/of/mine"))
    assert "folder" not in whole.to_json()
    assert "root" not in whole.to_json()
    assert Run.from_json(whole.to_json()).data == Data("digits")


def test_a_root_in_a_file_is_refused():
    planted = json.loads(run().to_json())
    planted["data"]["root"] = "/a/folder"
    with pytest.raises(ValueError, match=r"Data has no field 'root'"):
        Run.from_json(json.dumps(planted))


@pytest.mark.parametrize(
    "rates", [0, -0.1, float("nan"), float("inf"), "0.1", None, (), [], (0.1, float("nan")), (0.1, -1)]
)
@pytest.mark.parametrize("optimizer", [SGD, Adam, AdamW])
def test_rates_that_are_none_are_refused(optimizer, rates):
    with pytest.raises(ValueError, match=r"`rates` (must be a finite number above 0, got|is empty: give)"):
        optimizer(rates)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0.1, momentum=1.0), r"`momentum` must be a number in \[0, 1\), got 1\.0"),
        (lambda: SGD(0.1, momentum=float("nan")), r"`momentum` .* got nan"),
        (lambda: SGD(0.1, weight_decay=-1), r"`weight_decay` must be a finite number of at least 0, got -1"),
        (lambda: Adam(betas=(0.9,)), r"`betas` must be two numbers in \[0, 1\), got \(0\.9,\)"),
        (lambda: Adam(betas=(0.9, 1.0)), r"`betas` must be a number in \[0, 1\), got 1\.0"),
        (lambda: AdamW(betas=0.9), r"`betas` must be two numbers"),
        (lambda: AdamW(weight_decay=float("inf")), r"`weight_decay` .* got inf"),
        (lambda: Cosine(-1e-3), r"`floor` must be a finite number of at least 0, got -0\.001"),
        (lambda: Cosine(float("nan")), r"`floor` .* got nan"),
        (lambda: StepDecay(0), r"`every` must be a whole number of at least 1, got 0"),
        (lambda: StepDecay(2.5), r"`every` must be a whole number of at least 1, got 2\.5"),
        (lambda: StepDecay(2, 1.0), r"`factor` must be a number in \[0, 1\), got 1\.0"),
        (lambda: Data("digits", 0), r"`batch_size` must be a whole number of at least 1, got 0"),
        (lambda: Data("digits", validation=-1), r"`validation` must be a whole number of at least 0, got -1"),
        (lambda: Data("digits", validation=0.1), r"`validation` must be a whole number of at least 0, got 0\.1"),
        (lambda: Data(None), r"`name` must be an object of class str, got an object of class NoneType"),
    ],
)
def test_parts_refuse_what_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["epochs", "threads"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "3", None])
def test_epochs_and_threads_are_counts(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be a whole number of at least 1, got {value!r}"):
        run(**{name: value})


@pytest.mark.parametrize("value", [-1, True, 1.5, "3", None])
def test_a_seed_is_a_whole_number(value):
    with pytest.raises(ValueError, match=rf"`seed` must be a whole number of at least 0, got {value!r}"):
        run(seed=value)


@pytest.mark.parametrize("name", ["data", "model", "estimator", "optimizer", "schedule"])
@pytest.mark.parametrize("value", [None, "sgd", 5, SGD])
def test_a_part_of_another_class_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"`{name}`.* must be an object of class"):
        run(**{name: value})


def test_subclasses_are_refused():
    """A file could not tell them from their base."""

    class Mine(ep.MLP):
        pass

    class Faster(SGD):
        pass

    with pytest.raises(
        ValueError, match=r"`model` of a run must be an object of class MLP, ConvNet, Toy, .* use `Trainer`"
    ):
        run(model=Mine((64, 10)))
    with pytest.raises(ValueError, match=r"`optimizer` of a run must be an object of class SGD, Adam, AdamW"):
        run(optimizer=Faster(0.1))


class Leaky(ep.Prototypical):
    pass


class Absolute(ep.Cost):
    def value(self, out, y):
        return (out - self.target(y, out)).abs().sum(1)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"activation": ep.Activation(torch.sin, name="sine")}, r"Activation\('sine'\)"),
        ({"activation": ep.Activation(torch.sin, name="tanh")}, r"Activation\('tanh'\)"),
        ({"output_activation": ep.Activation(torch.sin, name="sine")}, r"Activation\('sine'\)"),
        ({"dynamics": Leaky()}, "Leaky"),
        ({"cost": Absolute()}, "Absolute"),
    ],
)
def test_what_no_file_can_carry_is_refused_at_once(options, name):
    """And the way out is named."""
    with pytest.raises(ValueError, match=rf"a file cannot store .*{name}.*activations by name.*use `Trainer`"):
        run(model=ep.MLP((64, 10), **options))


@pytest.mark.parametrize("which", ["estimator", "schedule", "model"])
def test_a_name_in_place_of_an_object_is_refused(which):
    planted = json.loads(run().to_json())
    planted[which] = planted[which]["type"]
    with pytest.raises(ValueError, match=rf"`{which}` of a run must be an object of class"):
        Run.from_json(json.dumps(planted))


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_refused_in_files(constant):
    text = run().to_json().replace('"beta": 0.1', f'"beta": {constant}')
    with pytest.raises(ValueError, match=rf"^{constant} is not allowed"):
        Run.from_json(text)


def test_numbers_too_large_are_refused_in_files():
    text = run().to_json().replace('"beta": 0.1', '"beta": 1e999')
    with pytest.raises(ValueError, match=r"`beta` must be non-zero and finite, got inf"):
        Run.from_json(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"momentum"', '"momentun"', r"SGD has no field 'momentun'; did you mean 'momentum'\?"),
        ('"free_steps"', '"free_step"', r"EquilibriumProp has no field 'free_step'; did you mean 'free_steps'\?"),
        ('"tied"', '"zebra"', r"MLP has no field 'zebra': it has sizes, activation, "),
        ('"type": "SGD"', '"type": "LBFGS"', r"unknown type 'LBFGS': must be one of "),
        ('"type": "SGD"', '"type": null', r"unknown type None: must be one of "),
        ('"type": "SGD"', '"type": []', r"unknown type \[\]: must be one of "),
        ('"type": "SGD"', '"type": {"type": "Settle", "steps": 3}', r"unknown type .*: must be one of "),
        ('"type": "SGD",', "", r"unknown type None: must be one of "),
        ('"epochs": 30', '"epochs": -3', r"`epochs` must be a whole number of at least 1, got -3"),
        ('"beta": 0.1', '"beta": 0.0', r"`beta` must be non-zero and finite, got 0\.0"),
        ('"beta": 0.1', '"beta": "0.1"', r"`beta` must be non-zero and finite, got '0\.1'"),
        ('"beta": 0.1,', "", r"EquilibriumProp: .*missing 1 required positional argument: 'beta'"),
        ('"name": "mine"', '"name": 5', r"`name` must be an object of class str"),
        ('"rates": [\n      0.1\n    ]', '"rates": []', r"`rates` is empty"),
        ('"activation": "hard_sigmoid"', '"activation": "hard_sigmoit"', r"hard_sigmoit"),
        ('"activation": "hard_sigmoid"', '"activation": [1]', r"activation"),
        ('"sizes": [\n      64,\n      10\n    ]', '"sizes": 5.5', r"MLP: .*float|`sizes` must"),
    ],
)
def test_a_file_with_a_mistake_is_told_of_it(old, new, message):
    text = run().to_json()
    assert old in text
    with pytest.raises(ValueError, match=message):
        Run.from_json(text.replace(old, new))


@pytest.mark.parametrize(
    "text", ["", "hello", "{", "[1, 2]", "3", "null", '"Run"', '{"type": "Settle", "steps": 3}', "{}"]
)
def test_what_is_no_run_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        Run.from_json(text)


WRITTEN = {
    "Run": {
        "name": "mine",
        "data": {"type": "Data", "name": "digits"},
        "model": {"type": "MLP", "sizes": [64, 10]},
        "estimator": {"type": "BPTT", "free_steps": 20},
        "optimizer": {"type": "SGD", "rates": 0.1},
    },
    "Data": {"name": "digits"},
    "Normalize": {"mean": [0.5], "std": [0.25]},
    "Augment": {"pad": 2, "border": "edge"},
    "MLP": {"sizes": [64, 10]},
    "ConvNet": {"input_shape": [1, 8, 8], "channels": [4], "kernel_size": 3, "pool": "avg", "dense": [10]},
    "Toy": {"hidden": 20},
    "Synchronous": {},
    "Asynchronous": {},
    "Anderson": {"window": 3, "growth": 0.5},
    "EquilibriumProp": {"free_steps": 20, "nudged_steps": 10, "beta": 0.1},
    "ContinualEP": {"free_steps": 20, "nudged_steps": 10, "beta": 0.1},
    "ContinualSGD": {"free_steps": 20, "nudged_steps": 10, "beta": 0.1, "rates": None},
    "BPTT": {"free_steps": 20, "unrolled_steps": 5, "surrogate": True},
    "ImplicitDiff": {"free_steps": 20},
    "SGD": {"rates": [0.1, 0.2]},
    "Adam": {},
    "AdamW": {"betas": [0.9, 0.99]},
    "QuantizedSGD": {"rates": [0.1, 0.2], "weight_bits": 5},
    "Constant": {},
    "Cosine": {"floor": 0.01},
    "StepDecay": {"every": 3},
    "Prototypical": {"nudge": "inside"},
    "EnergyDescent": {"dt": 0.5},
    "Noisy": {"dynamics": {"type": "Prototypical"}, "std": 0.1},
    "Spiking": {
        "eps": {"type": "OSA"},
        "lam": 0.3,
        "coder": {"type": "Bernoulli"},
        "input": "current",
        "decode": "before",
    },
    "SigmaDelta": {},
    "Bernoulli": {},
    "Decay": {"start": 0.5, "power": 0.3},
    "OSA": {"target": 0.03},
    "SquaredError": {},
    "CrossEntropyReadout": {"features": 12, "classes": 10},
    "Settle": {"steps": 20, "tol": 0.001},
}


def test_every_class_that_a_file_may_name_is_tried():
    assert {kind.__name__ for kind in CONFIG_CLASSES} == set(WRITTEN)


@pytest.mark.parametrize("kind", CONFIG_CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_is_made_by_its_name(kind):
    value = {"type": kind.__name__} | WRITTEN[kind.__name__]
    made = decode(value, CONFIG_CLASSES)
    assert type(made) is kind
    for name, given in WRITTEN[kind.__name__].items():
        if not isinstance(given, dict) and name != "rates":
            assert getattr(made, name) == (tuple(given) if isinstance(given, list) else given)
    assert encode(decode(encode(made, CONFIG_CLASSES), CONFIG_CLASSES), CONFIG_CLASSES) == encode(made, CONFIG_CLASSES)


@pytest.mark.parametrize(
    "name",
    ["Path", "pathlib.Path", "Popen", "subprocess.Popen", "os.system", "Model", "Network", "Activation", "Untied",
     "Equilibrium", "object", "dict", "Leaky", "Run.__init__", "eqprop.training.config.run.Run", "run", ""],
)  # fmt: skip
def test_no_other_class_is_ever_made(name):
    for value in (
        {"type": name},
        {"type": name, "args": ["touch"]},
        [{"type": name}],
        {"type": "MLP", "sizes": {"type": name}},
    ):
        with pytest.raises(ValueError, match=r"unknown type"):
            decode(value, CONFIG_CLASSES)


def test_the_former_class_of_surrogate_gradients_loads():
    old = decode({"type": "SurrogateBPTT", "free_steps": 20, "unrolled_steps": 11}, CONFIG_CLASSES)
    assert old == ESTIMATORS["surrogate"]
    assert encode(ep.BPTT(20), CONFIG_CLASSES) == {"type": "BPTT", "free_steps": 20, "unrolled_steps": None}


def test_only_the_kinds_that_are_given_are_made():
    with pytest.raises(ValueError, match=r"unknown type 'SGD': must be one of Settle"):
        decode({"type": "SGD", "rates": 0.1}, (ep.Settle,))
    with pytest.raises(ValueError, match=r"a file cannot store SGD"):
        encode(SGD(0.1), (ep.Settle,))


@pytest.mark.parametrize("value", [Path("a"), torch.ones(2), {1: 2}, b"bytes", SGD, lambda: None, 1j])
def test_other_values_are_not_carried(value):
    with pytest.raises(ValueError, match=r"a file cannot store"):
        encode(value, CONFIG_CLASSES)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_not_written(value):
    from eqprop.training.config.serialization import to_json

    with pytest.raises(ValueError, match=r"JSON"):
        to_json([value], CONFIG_CLASSES)


def test_a_run_draws_its_weights_from_its_seed_alone():
    whole = run(model=MODELS["readout"])
    torch.manual_seed(1)
    first = whole.build().state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second, other = whole.build().state_dict(), replace(whole, seed=1).build().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("estimator", ["one-sided", "centred", "truncated"])
def test_tests_settle_as_long_as_training_unless_told(estimator):
    """A network trained at one T may not stand another."""
    free = ESTIMATORS[estimator].free_steps
    free = free if isinstance(free, ep.Settle) else ep.Settle(free)
    assert run(estimator=ESTIMATORS[estimator]).build().settle == free
    assert run(estimator=ESTIMATORS[estimator], model=ep.MLP((64, 10), settle=77)).build().settle == ep.Settle(77)


@pytest.mark.parametrize(
    ("estimator", "tied", "untied"),
    [
        (ep.EquilibriumProp(20, 10, 0.1), "EP", "VF"),
        (ep.ContinualEP(20, 10, 0.1), "C-EP", "C-VF"),
        (ep.ContinualSGD(20, 10, 0.1), "C-EP", "C-VF"),
        (ep.BPTT(20), "BPTT", "BPTT"),
        (ep.BPTT(20, surrogate=True), "SurrogateBPTT", "SurrogateBPTT"),
        (ep.ImplicitDiff(20), "ImplicitDiff", "ImplicitDiff"),
    ],
)
def test_a_run_is_called_as_papers_call_it(estimator, tied, untied):
    assert run(estimator=estimator).method == tied
    assert run(estimator=estimator, model=MODELS["toy"]).method == tied
    assert run(estimator=estimator, model=MODELS["untied"]).method == untied


@pytest.mark.parametrize(
    "estimator",
    [
        ep.EquilibriumProp(17, 5, 0.1),
        ep.ContinualEP(17, 5, 0.1),
        ep.ContinualSGD(17, 5, 0.1),
        ep.BPTT(17),
        ep.ImplicitDiff(ep.Settle(17)),
    ],
)
def test_a_model_is_tested_as_long_as_its_free_phase(estimator):
    """A network trained at T steps may not stand another number of them."""
    run = Run("mine", Data("digits"), ep.MLP((64, 10)), estimator, SGD(0.1))
    assert run.build().settle == ep.Settle(17)
    assert replace(run, model=ep.MLP((64, 10), settle=9)).build().settle == ep.Settle(9)
