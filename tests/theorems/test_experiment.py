"""Specifications of checks of the theorem: JSON, weights, batches; and the folders of their results."""

import getpass
import json
import math
import platform
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import eqprop as ep
from eqprop._core.files import DamagedError
from eqprop.data import load
from eqprop.data.batches import Batches
from eqprop.models.mlp import MLP
from eqprop.models.toy import Toy
from eqprop.papers.registry import CONTINUAL, EXPERIMENTS, RECIPES, baseline, experiment, recipe
from eqprop.theorem.experiment import RANDOM, Experiment
from eqprop.theorem.result import INITIAL, read_result, run_experiment, write_result
from eqprop.training import Data, create_run
from eqprop.training.rng import BATCH, ESTIMATOR, REST, WEIGHTS, generator
from eqprop.training.session import prepare_run

INSIDE = ep.Prototypical(nudge="inside")


def small(**options) -> Experiment:
    """Return an experiment with a small network on digits."""
    given = {
        "name": "small",
        "data": Data("digits", 7),
        "model": MLP((64, 6, 10), "sigmoid", dynamics=INSIDE),
        "estimator": ep.EquilibriumProp(12, 4, 0.1, "centred"),
    }
    return Experiment(**given | options)


TINY_TOY = small(data=Data(RANDOM, 3), model=Toy(hidden=6), estimator=ep.EquilibriumProp(30, 5, 0.01))


EXAMPLES = {
    "small": small(),
    "toy": TINY_TOY,
    "double, another seed": small(dtype="float64", seed=7, threads=2),
    "tolerance": small(estimator=ep.EquilibriumProp(ep.Settle(50, 1e-4), 4, -0.1, "random-sign")),
    "energy": small(model=MLP((64, 6, 10), "tanh", dynamics=ep.EnergyDescent(0.08, False, False))),
    "readout": small(model=MLP((64, 6), cost=ep.CrossEntropyReadout(6, 10))),
    "untied": small(model=MLP((64, 6, 6, 10), "tanh", "identity", tied=False, angle=30.0)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_json_round_trip(name):
    one = EXAMPLES[name]
    text = one.to_json()
    other = Experiment.from_json(text)
    assert other.to_json() == text
    assert (other.name, other.data, other.estimator, other.dtype, other.seed, other.threads) == (
        one.name, one.data, one.estimator, one.dtype, one.seed, one.threads,
    )  # fmt: skip
    if name != "readout":  # a module is itself and no other
        assert other == one


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_named_experiment_round_trips(name):
    one = experiment(name)
    assert one.name == name
    assert Experiment.from_json(one.to_json()).to_json() == one.to_json()  # a readout is only itself
    assert experiment(name).to_json() == one.to_json()


def test_json_omits_paths():
    text = small(data=Data("digits", 7, root="/somewhere/mine")).to_json()
    assert "somewhere" not in text
    assert text == small().to_json()


def test_reading_does_not_advance_the_global_rng():
    """Not even for a readout, which draws weights."""
    text, before = EXAMPLES["readout"].to_json(), torch.get_rng_state()
    Experiment.from_json(text)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], "Expecting|delimiter|Unterminated"),
        (lambda text: "[]", "`experiment` must be an object of class Experiment, got an object of class tuple"),
        (lambda text: recipe("digits").to_json(), "must be an object of class Experiment, got an object of class Run"),
        (lambda text: text.replace('"seed"', '"sed"'), "Experiment has no field 'sed'; did you mean 'seed'"),
        (lambda text: text.replace('"Data"', '"Dato"'), "unknown type 'Dato'"),
        (lambda text: text.replace("0.1", "NaN"), "NaN is not allowed"),
        (lambda text: text.replace('"nudged_steps": 4', '"nudged_steps": 40'), "at most the 12 free steps, got 40"),
    ],
)
def test_invalid_json_raises(change, message):
    with pytest.raises(ValueError, match=message):
        Experiment.from_json(change(small().to_json()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 3}, r"`name` must be an object of class str"),
        ({"data": "digits"}, r"`data` must be an object of class Data"),
        ({"model": ep.mlp([64, 6, 10])}, r"`model` of a run must be an object of class MLP, ConvNet, Toy"),
        ({"model": MLP}, r"`model` of a run must be an object of class MLP, ConvNet, Toy"),
        ({"model": MLP((64, 10), ep.Activation(torch.atan, name="own"))}, r"a file cannot store"),
        ({"estimator": ep.BPTT(12, 4)}, r"`estimator` must be EquilibriumProp or ContinualSGD, got BPTT"),
        ({"estimator": ep.EquilibriumProp(12, 13, 0.1)}, r"`nudged_steps` must be at most the 12 free steps, got 13"),
        (
            {"estimator": ep.EquilibriumProp(ep.Settle(12, 1e-3), 13, 0.1)},
            r"`nudged_steps` must be at most the 12 free steps, got 13",
        ),
        ({"dtype": "float16"}, r"`dtype` must be one of 'float32', 'float64', got 'float16'"),
        ({"dtype": torch.float64}, r"`dtype` must be one of 'float32', 'float64', got torch.float64"),
        ({"seed": -1}, r"`seed` must be a whole number of at least 0, got -1"),
        ({"seed": 0.5}, r"`seed` must be a whole number of at least 0, got 0.5"),
        ({"threads": 0}, r"`threads` must be a whole number of at least 1, got 0"),
        ({"threads": 5000}, r"`threads` must be at most 1024, got 5000"),
    ],
)
def test_invalid_values_raise(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_as_many_nudged_steps_as_free_ones():
    assert small(estimator=ep.EquilibriumProp(12, 12, 0.1)).phases == (12, 12)


@pytest.mark.parametrize(("asked", "done"), [("one-sided",) * 2, ("centred",) * 2, ("random-sign", "one-sided")])
def test_nudging_of_the_check(asked, done):
    assert small(estimator=ep.EquilibriumProp(12, 4, 0.1, asked)).nudging == done


@pytest.mark.parametrize("name", RECIPES)
def test_from_run_keeps_model_and_phases(name):
    run = replace(recipe(name), seed=5, threads=2)
    one = Experiment.from_run(run)
    estimator = run.estimator
    if not isinstance(estimator, ep.EquilibriumProp):  # a continual rule, whose rates are the optimizer's
        phases = (estimator.free_steps, estimator.nudged_steps, estimator.beta)
        estimator = ep.ContinualSGD(*phases, run.optimizer.rates, estimator.nudging)
    if name.startswith("dchn") or name in ("p-2h-fast", "p-3h-fast"):  # two synchronous steps for a sweep
        free, nudged = (ep.Settle(2 * steps.steps) for steps in (estimator.free_steps, estimator.nudged_steps))
        estimator = replace(estimator, free_steps=free, nudged_steps=nudged)
    assert (one.name, one.data, one.model, one.estimator, one.seed, one.threads) == (
        run.name, run.data, run.model, estimator, 5, 2,
    )  # fmt: skip
    assert one.dtype == "float32"
    named = experiment(f"{name}-training")
    assert replace(named, name=name).to_json() == Experiment.from_run(recipe(name)).to_json()


def test_from_run_rejects_other_estimators():
    with pytest.raises(ValueError, match=r"this run trains by BPTT"):
        Experiment.from_run(baseline(recipe("digits")))


def state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("seed", [0, 4])
def test_weights_match_a_training_with_the_same_seed(seed):
    run = replace(recipe("digits"), seed=seed)
    ours, theirs = state(Experiment.from_run(run).build()), state(run.build())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(tensor.dtype == torch.float32 for tensor in ours.values())


@pytest.mark.parametrize("name", ["small", "toy", "readout", "untied"])
def test_both_precisions_have_the_same_weights(name):
    single, double = (state(replace(EXAMPLES[name], dtype=dtype).build()) for dtype in ("float32", "float64"))
    for key, tensor in double.items():
        assert tensor.dtype == torch.float64
        assert torch.equal(tensor, single[key].double())


def test_the_seed_determines_weights_and_batch():
    for one in (small(), TINY_TOY):
        first, again, other = ((model := e.build(), e.batch(model)) for e in (one, one, replace(one, seed=1)))
        for same, pair in ((True, again), (False, other)):
            weights = zip(state(first[0]).values(), state(pair[0]).values(), strict=True)
            assert all(torch.equal(a, b) == same for a, b in weights)
            assert torch.equal(first[1][0], pair[1][0]) == same
        assert torch.equal(first[1][1], again[1][1])


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_global_rng_is_neither_used_nor_advanced(name):
    one, found = EXAMPLES[name], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        model = one.build()
        found.append((state(model), one.batch(model)))
        assert torch.equal(torch.get_rng_state(), before)
    (weights, (x, y)), (others, (x_2, y_2)) = found
    assert all(torch.equal(tensor, others[key]) for key, tensor in weights.items())
    assert torch.equal(x, x_2)
    assert torch.equal(y, y_2)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_batch_is_the_first_training_batch_of_that_seed(seed):
    one = small(seed=seed)
    x, y = load("digits").train
    wanted, classes = next(iter(Batches(x.reshape(len(x), -1), y, 7, seed)))
    found = one.batch(one.build())
    assert torch.equal(found[0], wanted)
    assert torch.equal(found[1], classes)


@pytest.mark.parametrize("validation", [0, 300])
def test_the_batch_is_the_first_of_the_training(validation):
    """Held-out samples are not trained on."""
    run = replace(recipe("digits"), seed=2, data=Data("digits", 20, validation=validation))
    one = Experiment.from_run(run)
    for found, wanted in zip(one.batch(one.build()), next(iter(prepare_run(run).train)), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("of", [small(), TINY_TOY], ids=["digits", "random"])
def test_a_batch_has_the_dtype_of_the_model(of, dtype):
    one = replace(of, dtype=dtype)
    x, y = one.batch(one.build())
    assert x.dtype == getattr(torch, dtype)
    assert x.shape == (of.data.batch_size, of.build().network.populations[0].shape[0])
    assert y.shape == (of.data.batch_size,)
    assert y.dtype == torch.int64
    single = of.batch(of.build())
    assert torch.equal(x, single[0].to(x))
    assert torch.equal(y, single[1])


def test_a_batch_has_at_most_the_available_samples():
    one = small(data=Data("digits", 5000))
    assert len(one.batch(one.build())[0]) == len(load("digits").train[0])


def test_random_inputs_and_one_class_for_the_whole_batch():
    classes = set()
    for seed in range(12):
        one = replace(TINY_TOY, data=Data(RANDOM, 400), seed=seed)
        x, y = one.batch(one.build())
        assert 0 <= x.min() < 0.02
        assert 0.98 < x.max() <= 1
        assert x.mean() == pytest.approx(0.5, abs=0.03)
        assert x.var() == pytest.approx(1 / 12, abs=0.01)
        assert len(set(y.tolist())) == 1
        classes.add(int(y[0]))
    assert classes <= set(range(10))
    assert len(classes) > 3, "each seed draws its class"


def test_the_classes_are_those_of_a_readout_if_there_is_one():
    model = MLP((4, 6), cost=ep.CrossEntropyReadout(6, 2))
    found = {
        int((one := small(data=Data(RANDOM, 1), model=model, seed=seed)).batch(one.build())[1]) for seed in range(12)
    }
    assert found == {0, 1}


def test_random_inputs_have_a_separate_rng_stream():
    x, _ = TINY_TOY.batch(TINY_TOY.build())
    assert torch.equal(x, torch.rand(x.shape, generator=generator(0, BATCH)))
    for purpose in (WEIGHTS, ESTIMATOR, REST):
        assert not torch.equal(x, torch.rand(x.shape, generator=generator(0, purpose)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": MLP((63, 10))}, r"the model's input has 63 units, but a sample has .* values"),
        ({"model": MLP((64, 9))}, r"the model's output does not fit digits: .* from 0 to 8, got 9"),
        ({"data": Data("digts")}, r"no data set is called 'digts'.*digits"),
        ({"data": Data("digits", validation=5000)}, r"`count` must be below the number of samples"),
    ],
)
def test_mismatched_data_raise(options, message):
    one = small(**options)
    with pytest.raises(ValueError, match=message):
        one.batch(one.build())


def test_an_unstable_beta_raises():
    one = small(model=MLP((64, 10)), estimator=ep.EquilibriumProp(12, 4, 1.5))
    with pytest.raises(ValueError, match=r"`beta` = 1.5"):
        one.build()
    with pytest.raises(ValueError, match=r"`betas` = -1.5"):
        carry_out(small(model=MLP((64, 10))), betas=(0.1, -1.5))


# what was found


def carry_out(one: Experiment, **options):
    model = one.build()
    return run_experiment(one, model, one.batch(model), **options)


@pytest.fixture(scope="module")
def found():
    """A result with two further betas."""
    return carry_out(small(), betas=(0.2, -0.05), weights="trained, epoch 3")


@pytest.mark.parametrize("name", ["small", "toy", "energy", "readout", "untied", "tolerance"])
def test_run_experiment_agrees_with_gdu(name):
    one = EXAMPLES[name]
    model = one.build()
    report, result = carry_out(one, betas=(0.2,))
    estimator = one.estimator
    for beta, summary in ((estimator.beta, result.summary), (0.2, result.betas[0])):
        wanted = ep.gdu(model, *one.batch(model), estimator.free_steps, estimator.nudged_steps, beta, one.nudging)
        assert summary == wanted.summary()
    assert report.summary() == result.summary
    assert (result.experiment, result.weights, len(result.betas)) == (one, INITIAL, 1)
    assert math.isfinite(result.seconds)


def test_the_free_phase_runs_once_for_all_betas():
    told = []
    carry_out(small(), betas=(0.2, 0.3, 0.4), progress=lambda done, total: told.append((done, total)))
    assert told[-1][1] == 12
    assert sum(done == told[0][0] for done, _ in told) == 1


def test_the_number_of_threads_is_set_and_restored():
    _, result = carry_out(small(threads=2))
    assert result.environment["threads"] == 2
    assert torch.get_num_threads() == 1
    one = small(threads=2)
    model = one.build()
    with pytest.raises(FloatingPointError, match="input"):
        run_experiment(one, model, (torch.full((2, 64), math.nan), torch.tensor([0, 1])))
    assert torch.get_num_threads() == 1


def test_a_result_round_trips_through_a_folder(found, tmp_path):
    write_result(found[1], tmp_path / "a" / "b")
    assert read_result(tmp_path / "a" / "b") == found[1]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "environment.json", "experiment.json", "report.json",
    ]  # fmt: skip


def test_files_are_plain_json(found, tmp_path):
    """Plain JSON, with the names that the library has."""
    write_result(found[1], tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report.keys() == {"summary", "betas", "weights", "seconds"}
    assert report["summary"] == found[0].summary()
    assert [summary["beta"] for summary in report["betas"]] == [0.2, -0.05]
    assert Experiment.from_json((tmp_path / "experiment.json").read_text()) == small()
    assert json.loads((tmp_path / "environment.json").read_text())["torch"] == torch.__version__


def test_write_result_overwrites(found, tmp_path):
    _, other = carry_out(TINY_TOY)
    write_result(other, tmp_path)
    write_result(found[1], tmp_path)
    assert read_result(tmp_path) == found[1]


NAMES = ("experiment", "report", "environment")


@pytest.mark.parametrize("name", NAMES)
def test_read_result_returns_none_if_a_file_is_missing(name, found, tmp_path):
    write_result(found[1], tmp_path)
    (tmp_path / f"{name}.json").unlink()
    assert read_result(tmp_path) is None
    (tmp_path / f"{name}.json").mkdir()
    assert read_result(tmp_path) is None


def test_read_result_returns_none_for_an_empty_folder(tmp_path):
    assert read_result(tmp_path) is None
    assert read_result(tmp_path / "nowhere") is None


def test_read_result_returns_none_for_a_run_folder(tmp_path):
    create_run(recipe("digits"), tmp_path / "run")
    assert read_result(tmp_path / "run") is None


DAMAGES = {
    "cut": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "no text": lambda raw: b"\xff\xfe\x00" + raw,
    "a letter": lambda raw: raw.replace(b'"', b"'", 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_raises(name, damage, found, tmp_path):
    write_result(found[1], tmp_path)
    file = tmp_path / f"{name}.json"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    with pytest.raises(DamagedError, match=re.escape(f"{tmp_path} does not hold the result of a check")):
        read_result(tmp_path)


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"summary": {}}', '{"sumary": 3}'])
def test_a_foreign_report_raises(text, found, tmp_path):
    write_result(found[1], tmp_path)
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(DamagedError, match="does not hold the result of a check"):
        read_result(tmp_path)


@pytest.mark.parametrize("last", [0, 1, 2])
def test_an_interrupted_write_leaves_no_result(last, found, tmp_path, monkeypatch):
    """At every file: the report is written last."""
    from eqprop._core.files import write_atomic

    written = []

    def stops(path, content):
        if len(written) == last:
            raise KeyboardInterrupt
        written.append(path.name)
        write_atomic(path, content)

    monkeypatch.setattr("eqprop.theorem.result.write_atomic", stops)
    with pytest.raises(KeyboardInterrupt):
        write_result(found[1], tmp_path)
    assert read_result(tmp_path) is None
    assert "report.json" not in written


def test_files_contain_no_personal_data(tmp_path):
    """No data folder, user or host name."""
    one = small(data=Data("digits", 7, root=str(tmp_path)))
    write_result(carry_out(one)[1], tmp_path / "x")
    secrets = {
        str(tmp_path),
        platform.node(),
        f"/{getpass.getuser()}",
        str(Path.home()),
        str(Path(__file__).parents[2]),
    }
    for path in (tmp_path / "x").iterdir():
        text = path.read_text()
        assert not [secret for secret in secrets if len(secret) > 2 and secret in text]
        assert not re.search(r'"/\w', text)


# the paper's

# reference/ep.md 2.5, Ernoult et al. 2019, one line for each figure; tanh, one-sided. Batches of 20 are those of the relative
# errors, and for P-2h and P-3h the likely ones: the commands of these have 1.
FIGURES = {
    # sizes, T, K, beta, dt, batch
    "toy": ((5, 50, 10), 5000, 80, 0.01, 0.08, 1),
    "eb-1h": ((784, 512, 10), 800, 80, 0.001, 0.08, 20),
    "eb-2h": ((784, 512, 512, 10), 5000, 150, 0.01, 0.08, 20),
    "eb-3h": ((784, 512, 512, 512, 10), 30000, 200, 0.02, 0.08, 20),
    "p-1h": ((784, 512, 10), 150, 10, 0.01, 1, 20),
    "p-2h": ((784, 512, 512, 10), 1500, 40, 0.01, 1, 20),
    "p-3h": ((784, 512, 512, 512, 10), 5000, 40, 0.015, 1, 20),
    "p-conv": (((1, 28, 28), (32, 12, 12), (64, 4, 4), 10), 5000, 10, 0.02, 1, 20),
}


def test_the_names():
    exact, trainings = ({f"{name}{end}" for name in of} for of, end in ((FIGURES, "-exact"), (RECIPES, "-training")))
    assert set(EXPERIMENTS) == set(FIGURES) | exact | trainings | set(CONTINUAL)


@pytest.mark.parametrize("name", [*FIGURES, *(f"{name}-exact" for name in FIGURES)])
def test_an_experiment_has_the_numbers_of_its_figure(name):
    sizes, free, nudged, beta, dt, batch = FIGURES[name.removesuffix("-exact")]
    exact = name.endswith("-exact")
    one = experiment(name)
    assert one.estimator == ep.EquilibriumProp(free, nudged, beta, nudging="one-sided")
    assert one.data == Data(RANDOM if name.startswith("toy") else "mnist", batch, validation=0)
    assert (one.seed, one.threads, one.dtype) == (0, 1, "float64" if exact else "float32")
    model = one.build()
    shapes = tuple(size if isinstance(size, tuple) else (size,) for size in sizes)
    assert tuple(p.shape for p in model.network.populations) == shapes
    rho = "hard_sigmoid" if name.startswith("p-conv") else "tanh"
    assert {p.activation.name for p in model.network.populations} == {rho}
    chain = tuple((n, n + 1) for n in range(len(sizes) - 1))
    assert set(model.network.ends) == set(chain if not name.startswith("toy") else (*chain, (0, 2)))
    assert isinstance(model.cost, ep.SquaredError)
    dynamics = model.dynamics
    if name.startswith("p"):
        assert dynamics == ep.Prototypical(nudge="inside" if exact else "outside")
        assert dt == 1
    else:
        # the toy's code has rho' at the output, the layered networks' code has not (ep.md 2.1, 2.2)
        assert dynamics == ep.EnergyDescent(dt, clamp=False, output_derivative=exact or name == "toy")


def test_figure_names_take_precedence_over_recipe_names():
    assert experiment("p-1h").estimator.free_steps == 150
    assert experiment("p-1h-training").estimator.free_steps == 30
    assert experiment("digits") == experiment("digits-training")
    with pytest.raises(ValueError, match=r"there is no recipe 'p-4h': did you mean 'p-"):
        experiment("p-4h")


@pytest.mark.parametrize(
    ("name", "rule", "phases", "dt", "angle"),
    [
        ("ep-p-1h", "EP", (150, 10, 0.01), 1.0, None),
        ("cep-p-1h", "C-EP", (150, 10, 0.01), 1.0, None),
        ("cvf-p-1h", "C-VF", (150, 10, 0.01), 1.0, 0.0),
        ("ep-eb-1h", "EP", (800, 80, 0.005), 0.08, None),
        ("cep-eb-1h", "C-EP", (800, 80, 0.005), 0.08, None),
        ("cvf-eb-1h", "C-VF", (800, 80, 0.005), 0.08, 45.0),
    ],
)
def test_an_experiment_of_2020_has_the_numbers_of_its_figure(name, rule, phases, dt, angle):
    one = experiment(name)
    estimator = one.estimator
    assert (estimator.free_steps, estimator.nudged_steps, estimator.beta, one.nudging) == (*phases, "one-sided")
    assert one.rates == (None if rule == "EP" else (2e-5,))
    assert (one.model.sizes, one.model.activation, one.data.batch_size) == ((784, 512, 10), "tanh", 1)
    assert (one.model.tied, one.model.angle) == (angle is None, angle or 0.0)
    assert getattr(one.model.dynamics, "dt", 1.0) == dt


def test_continual_ep_needs_rates():
    with pytest.raises(ValueError, match="`rates` must be given: a check has no optimizer to take them from"):
        small(estimator=ep.ContinualSGD(12, 4, 0.1))


def test_a_tolerance_in_the_nudged_phase_raises():
    with pytest.raises(ValueError, match=r"`nudged_steps` must have no tolerance, got 4:0\.1"):
        small(estimator=ep.EquilibriumProp(12, ep.Settle(4, 0.1), 0.1))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("report.json", {"betas": [{}]}),
        ("report.json", {"betas": 3}),
        ("report.json", {"summary": {}}),
        ("environment.json", None),
        ("environment.json", {}),
    ],
)
def test_a_result_with_missing_entries_is_damaged(tmp_path, file, change):
    one = small()
    model = one.build()
    _, result = run_experiment(one, model, one.batch(model))
    write_result(result, tmp_path)
    path = tmp_path / file
    kept = json.loads(path.read_text()) if file == "report.json" else {}
    path.write_text(json.dumps(None if change is None else kept | change))
    with pytest.raises(DamagedError, match="does not hold the result of a check"):
        read_result(tmp_path)
