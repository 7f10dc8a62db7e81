"""The recipes are the paper's tables, and what was published stands beside them."""

from dataclasses import replace

import pytest

import eqprop as ep
from eqprop.papers.published_results import Published
from eqprop.papers.registry import PUBLISHED, RECIPES, baseline, published, recipe
from eqprop.training import SGD, Adam, Constant, Cosine, Data, Run, StepDecay

# Ernoult et al. 2019, Table 1 and appendix; rates input-first. The ``-readme`` variants are the commands of its code. The
# energy-based recipes have the hard sigmoid by decision of this library: see the docstring of `eqprop.papers.ernoult2019.recipes`.
TABLE = {
    # sizes, activation, T, K, beta, rates, epochs
    "p-1h": ((784, 512, 10), "sigmoid", 30, 10, 0.1, (0.08, 0.04), 30),
    "p-1h-readme": ((784, 512, 10), "sigmoid", 40, 15, 0.1, (0.08, 0.04), 30),
    "p-2h": ((784, 512, 512, 10), "sigmoid", 100, 20, 0.5, (0.2, 0.05, 0.005), 50),
    "p-3h": ((784, 512, 512, 512, 10), "sigmoid", 180, 20, 0.5, (0.2, 0.05, 0.01, 0.002), 100),
    "eb-1h": ((784, 512, 10), "hard_sigmoid", 100, 12, 0.5, (0.1, 0.05), 30),
    "eb-1h-readme": ((784, 512, 10), "sigmoid", 100, 12, 0.5, (0.1, 0.05), 30),
    "eb-2h": ((784, 512, 512, 10), "hard_sigmoid", 500, 40, 0.5, (0.4, 0.1, 0.01), 50),
    "eb-2h-readme": ((784, 512, 512, 10), "sigmoid", 400, 40, 0.5, (0.4, 0.1, 0.01), 50),
}
CONTINUAL = {  # Ernoult et al. 2020, figure 4 and appendix
    # sizes, T, K, beta, nudging, rates, epochs
    "cep-1h": ((784, 512, 10), 40, 15, 0.2, "random-sign", (0.0056, 0.0028), 100),
    "cep-1h-readme": ((784, 512, 10), 40, 15, 0.2, "one-sided", (0.0056, 0.0028), 100),
    "cep-2h": ((784, 512, 512, 10), 100, 20, 0.5, "one-sided", (0.01, 0.0018, 0.00018), 150),
    "cvf-1h": ((784, 512, 10), 40, 15, 0.2, "random-sign", (0.0076, 0.0038), 100),
    "cvf-1h-decay": ((784, 512, 10), 40, 15, 0.2, "random-sign", (0.0076, 0.0038), 100),
    "cvf-2h": ((784, 512, 512, 10), 100, 20, 0.35, "random-sign", (0.009, 0.0016, 0.00016), 150),
}
CONVOLUTIONAL = {  # Ernoult et al. 2019; Laborieux et al. 2021; Scellier et al. 2023; Vinayak and Srinivasan 2025
    # data, batch, shapes of the images, T, K, beta, nudging, rates, momentum, decay, epochs
    "p-conv": ("mnist", 20, [(32, 12), (64, 4)], 200, 10, 0.4, "one-sided", (0.15, 0.035, 0.015), 0, 0, 40),
    "p-conv-fashion": ("fashion-mnist", 20, [(32, 12), (64, 4)], 200, 10, 0.4, "one-sided", (0.15, 0.035, 0.015), 0, 0, 40),
    "laborieux-cifar10": (
        "cifar-10", 128, [(128, 16), (256, 8), (512, 4), (512, 1)], 250, 25, 1.0, "centred",
        (0.25, 0.15, 0.1, 0.08, 0.05), 0.9, 3e-4, 120,
    ),
    "dchn-mnist": (
        "mnist", 128, [(128, 16), (256, 8), (512, 4), (512, 2)], 60, 15, 0.25, "centred",
        (0.0625, 0.0375, 0.025, 0.02, 0.0125), 0.9, 3e-4, 100,
    ),
    "dchn-fashion": (
        "fashion-mnist", 128, [(128, 16), (256, 8), (512, 4), (512, 2)], 60, 15, 0.25, "centred",
        (0.0625, 0.0375, 0.025, 0.02, 0.0125), 0.9, 3e-4, 100,
    ),
    "dchn-cifar10": (
        "cifar-10", 128, [(128, 16), (256, 8), (512, 4), (512, 2)], 60, 20, 0.1, "centred", (0.03,), 0.9, 2.5e-4, 100,
    ),
    "resnet13-cifar10": (
        "cifar-10", 128, [(128, 32), (128, 16), (256, 16), (256, 8), (512, 8), (512, 4), (512, 4), (512, 2)],
        120, 50, 0.1, "centred", (0.03,), 0.9, 2.5e-4, 300,
    ),
}  # fmt: skip
ERRORS = {  # EP: test, deviation, train; BPTT: the same
    "eb-1h": ((2.06, 0.17, 0.13), (2.11, 0.09, 0.46)),
    "eb-2h": ((2.01, 0.21, 0.11), (2.02, 0.12, 0.29)),
    "p-1h": ((2.00, 0.13, 0.20), (2.00, 0.12, 0.55)),
    "p-2h": ((1.95, 0.10, 0.14), (2.09, 0.12, 0.37)),
    "p-3h": ((2.01, 0.18, 0.10), (2.30, 0.17, 0.32)),
    "p-conv": ((1.02, 0.04, 0.54), (0.88, 0.06, 0.12)),
    "laborieux-cifar10": ((11.68, 0.17, None), (11.12, 0.21, None)),
    "dchn-mnist": ((0.44, None, None), (0.42, None, None)),
    "dchn-fashion": ((6.47, None, None), (6.12, None, None)),
}
AT_ANGLES = {  # C-VF by the initial angle: test, deviation, train
    "cvf-1h": {0: (2.43, 0.08, 0.77), 22.5: (2.38, 0.15, 0.74), 90: (2.46, 0.18, 0.78), 180: (92.82, 3.47, 92.71)},
    "cvf-2h": {0: (2.97, 0.19, 1.58), 45: (3.78, 0.78, 2.86), 112.5: (20.33, 13.03, 20.30), 135: (59.0, 17.9, None)},
}


def steps_of(steps):
    """Their number."""
    return steps.steps if isinstance(steps, ep.Settle) else steps


def test_the_names():
    hardware = {f"hardware-{rule}" for rule in ("ep", "centred", "cep", "cvf")}
    convolutional = {*CONVOLUTIONAL, *(f"{name}-small" for name in CONVOLUTIONAL)}
    images = [f"spiking-{data}{small}" for data in ("mnist", "fashion") for small in ("", "-small")]
    spiking = {"spiking-dense", "spiking-digits", *images}
    assert set(RECIPES) == {*TABLE, *CONTINUAL, "vf-1h", "digits", *hardware, *convolutional, *spiking}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_a_convolutional_recipe_is_its_line_of_the_table(name):
    data, batch, images, free, nudged, beta, nudging, rates, momentum, decay, epochs = CONVOLUTIONAL[name]
    run = recipe(name)
    assert (run.name, run.data.name, run.data.batch_size, run.epochs) == (name, data, batch, epochs)
    shapes = [p.shape for p in run.build().network.relaxing]
    assert shapes[: len(images)] == [(channels, side, side) for channels, side in images]
    assert shapes[len(images) :] == ([] if name.startswith("laborieux") else [(10,)])
    estimator = run.estimator
    assert (steps_of(estimator.free_steps), steps_of(estimator.nudged_steps)) == (free, nudged)
    assert (estimator.beta, estimator.nudging) == (beta, nudging)
    assert run.optimizer == SGD(rates, momentum=momentum, weight_decay=decay)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_a_small_variant_is_the_same_kind_of_network_for_two_cores(name):
    full, small = recipe(name), recipe(f"{name}-small")
    assert small.data.name == full.data.name
    assert small.model.pool == full.model.pool
    assert len(small.model.channels) == len(full.model.channels)
    assert small.estimator.nudging == "centred"
    assert small.epochs <= 8
    assert published(small) == ()


@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_is_its_line_of_the_table(name):
    run = recipe(name)
    sizes, activation, free, nudged, beta, rates, epochs = TABLE[name]
    assert run.name == name
    assert run.data == Data("mnist", batch_size=20, validation=0)
    assert run.model.sizes == sizes
    assert run.model.activation == activation
    assert run.model.output_activation is None
    assert run.model.tied
    assert run.model.cost == ep.SquaredError()
    assert run.estimator == ep.EquilibriumProp(free, nudged, beta, nudging="one-sided")
    assert run.optimizer == SGD(rates, momentum=0.0, weight_decay=0.0)
    assert run.schedule == Constant()
    assert run.epochs == epochs
    dynamics = run.model.dynamics
    if name.startswith("p"):
        assert dynamics == ep.Prototypical(nudge="outside")
    else:
        assert (dynamics.dt, dynamics.clamp) == (0.2, True)


@pytest.mark.parametrize("name", CONTINUAL)
def test_a_continual_recipe_is_its_line_of_the_table(name):
    sizes, free, nudged, beta, nudging, rates, epochs = CONTINUAL[name]
    tied = name.startswith("cep")
    assert recipe(name) == Run(
        name,
        Data("mnist", batch_size=20),
        ep.MLP(sizes, "sigmoid", dynamics=ep.Prototypical(nudge="outside"), tied=tied, angle=0.0),
        ep.ContinualSGD(free, nudged, beta, rates=None, nudging=nudging),
        SGD(rates),
        StepDecay(every=70, factor=0.1) if name.endswith("-decay") else Constant(),
        epochs=epochs,
    )
    assert recipe(name).method == ("C-EP" if tied else "C-VF")


def test_the_vector_field_recipe():
    """Hyper-parameters of the official code's older version."""
    run = recipe("vf-1h")
    assert run.model == ep.MLP((784, 512, 10), "sigmoid", tied=False)
    assert (run.estimator, run.optimizer, run.epochs) == (ep.EquilibriumProp(30, 10, 0.1), SGD((0.15, 0.075)), 30)
    assert (run.method, published(run)) == ("VF", ())


@pytest.mark.parametrize("name", ["eb-1h", "eb-1h-readme", "eb-2h", "eb-2h-readme"])
def test_the_energy_based_recipes_leave_out_the_outputs_derivative(name):
    """As the code of the paper does (its class EPcont)."""
    assert not recipe(name).model.dynamics.output_derivative


def test_the_demo():
    run = recipe("digits")
    assert run.data == Data("digits", batch_size=20)
    assert run.model.sizes[0] == 64
    assert run.model.sizes[-1] == 10
    assert published(run) == ()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_and_comes_back(name):
    run = recipe(name)
    assert Run.from_json(run.to_json()).to_json() == run.to_json()  # a readout is only itself
    model = run.build()
    image = isinstance(run.model, ep.ConvNet)
    assert model.network.populations[0].shape == (run.model.input_shape if image else (run.model.sizes[0],))
    free = run.estimator.free_steps
    assert model.settle == (free if isinstance(free, ep.Settle) else ep.Settle(free))
    groups = run.optimizer.build(model).param_groups
    assert [group["lr"] for group in groups] == list(run.optimizer.rates)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_made_anew_each_time(name):
    assert recipe(name).to_json() == recipe(name).to_json()
    assert (recipe(name).seed, recipe(name).threads) == (0, 1)


@pytest.mark.parametrize("name", RECIPES)
def test_the_baseline_is_bptt_over_the_last_steps(name):
    """K + 1 of the T steps; from the same weights, and nothing else is another."""
    run = recipe(name)
    other = baseline(run)
    assert other.estimator == ep.BPTT(run.estimator.free_steps, steps_of(run.estimator.nudged_steps) + 1)
    assert replace(other, estimator=run.estimator) == run
    assert other.build().settle == run.build().settle


def test_a_baseline_unrolls_no_more_steps_than_there_are():
    run = replace(recipe("digits"), estimator=ep.EquilibriumProp(10, 10, 0.1))
    assert baseline(run).estimator == ep.BPTT(10, 10)


def test_a_baseline_keeps_the_tolerance_of_the_free_phase():
    settle = ep.Settle(50, tol=1e-4)
    run = replace(recipe("digits"), estimator=ep.EquilibriumProp(settle, ep.Settle(8), 0.1))
    assert baseline(run).estimator == ep.BPTT(settle, 9)


@pytest.mark.parametrize("estimator", [ep.BPTT(10), ep.ImplicitDiff(10)])
def test_only_ep_has_a_baseline(estimator):
    with pytest.raises(ValueError, match=rf"the baseline of a run by {type(estimator).__name__} is not defined"):
        baseline(replace(recipe("digits"), estimator=estimator))


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("method", ["EP", "BPTT"])
def test_published_figures(name, method):
    run = replace(recipe(name), seed=17, threads=2)
    run = run if method == "EP" else baseline(run)
    test, deviation, train = ERRORS[name][method == "BPTT"]
    (line,) = published(run)
    assert isinstance(line, Published)
    assert (line.recipe, line.method, line.test, line.spread, line.train) == (name, method, test, deviation, train)
    assert line.recalled
    year = {"laborieux-cifar10": "2021", "dchn-mnist": "2023", "dchn-fashion": "2023"}.get(name, "2019")
    assert year in line.source


@pytest.mark.parametrize(("name", "errors"), [("cep-1h", (2.28, 0.16, 0.41)), ("cep-2h", (2.44, 0.14, 0.31))])
def test_published_figures_of_continual_ep(name, errors):
    (line,) = published(replace(recipe(name), seed=3))
    assert (line.recipe, line.method, line.test, line.spread, line.train) == (name, "C-EP", *errors)
    assert line.recalled
    assert "2020" in line.source
    assert published(baseline(recipe(name))) == ()


@pytest.mark.parametrize(("name", "angle"), [(name, angle) for name, angles in AT_ANGLES.items() for angle in angles])
def test_published_figures_by_the_angle_of_the_weights(name, angle):
    run = recipe(name)
    (line,) = published(replace(run, model=replace(run.model, angle=angle)))
    assert (line.method, line.angle, (line.test, line.spread, line.train)) == ("C-VF", angle, AT_ANGLES[name][angle])
    assert line.recalled
    assert "2020" in line.source


def test_nothing_was_published_of_other_angles():
    run = recipe("cvf-1h")
    assert published(replace(run, model=replace(run.model, angle=30))) == ()
    assert published(replace(run, model=replace(run.model, tied=True))) == ()
    assert (
        len([p for p in PUBLISHED if p.recipe == "cvf-1h"]) == len([p for p in PUBLISHED if p.recipe == "cvf-2h"]) == 9
    )


@pytest.mark.parametrize("name", ["p-1h-readme", "eb-1h-readme", "eb-2h-readme", "digits"])
def test_nothing_was_published_of_the_others(name):
    assert published(recipe(name)) == ()


CHANGES = {
    "beta": {"estimator": ep.EquilibriumProp(30, 10, 0.2)},
    "K": {"estimator": ep.EquilibriumProp(30, 11, 0.1)},
    "nudging": {"estimator": ep.EquilibriumProp(30, 10, 0.1, nudging="centred")},
    "implicit": {"estimator": ep.ImplicitDiff(30)},
    "bptt": {"estimator": ep.BPTT(30)},
    "rates": {"optimizer": SGD((0.08, 0.05))},
    "momentum": {"optimizer": SGD((0.08, 0.04), momentum=0.9)},
    "optimizer": {"optimizer": Adam((0.08, 0.04))},
    "cosine": {"schedule": Cosine()},
    "steps": {"schedule": StepDecay(10)},
    "epochs": {"epochs": 29},
    "data": {"data": Data("fashion-mnist")},
    "batch": {"data": Data("mnist", batch_size=21)},
    "validation": {"data": Data("mnist", validation=1000)},
    "hidden": {"model": ep.MLP((784, 511, 10), "sigmoid")},
    "nudge": {"model": ep.MLP((784, 512, 10), "sigmoid", dynamics=ep.Prototypical(nudge="inside"))},
    "settle": {"model": ep.MLP((784, 512, 10), "sigmoid", settle=30)},
    "untied": {"model": ep.MLP((784, 512, 10), "sigmoid", tied=False)},
    "name": {"name": "my-own"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_was_published_of_a_changed_recipe(change):
    assert published(replace(recipe("p-1h"), **CHANGES[change])) == ()


def test_a_place_for_the_data_changes_nothing():
    assert published(replace(recipe("p-1h"), data=Data("mnist", root="/somewhere"))) == published(recipe("p-1h"))


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("p-1", r"did you mean 'p-1h'\?"),
        ("p1h", r"did you mean 'p-1h'\?"),
        ("digit", r"did you mean 'digits'\?"),
        ("eb-3h", r"did you mean 'eb-\dh'\?"),
        ("zebra", r"`eqprop recipes` lists them"),
        ("", r"`eqprop recipes` lists them"),
    ],
)
def test_an_unknown_recipe(wrong, hint):
    with pytest.raises(ValueError, match=rf"there is no recipe '{wrong}': {hint}"):
        recipe(wrong)
