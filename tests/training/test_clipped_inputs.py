"""Values that the dynamics clip do not reach the network: refused for new runs, warned of once in the library."""

import re
import warnings

import pytest
import torch

import eqprop as ep
from eqprop.data.augmentation import Normalize
from eqprop.papers.registry import RECIPES, recipe
from eqprop.training import Run
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.run import Data
from eqprop.training.session import check_training, create_run, prepare_run, train_run

STANDARD = Normalize((0.3,), (0.4,))
Y = torch.tensor([0, 1, 2])
INPUT = torch.tensor([[-0.5, 0.0, 0.5, 1.0], [0.1, 0.2, 0.3, 1.5], [0.0, 1.0, 0.0, 1.0]])
CLIPPING = [ep.EnergyDescent(), ep.EnergyDescent(clamp=False), ep.Spiking(), ep.Noisy(ep.EnergyDescent(), 0.0)]


def run(dynamics, normalize=STANDARD, activation="hard_sigmoid") -> Run:
    model = ep.MLP((64, 8, 10), activation, dynamics=dynamics)
    data = Data("digits", 300, normalize=normalize)
    return Run("mine", data, model, ep.EquilibriumProp(8, 4, 0.2), SGD(0.1), epochs=1)


def messages(call) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "the (free|nudged) phase")
        call()
    return [str(w.message) for w in caught]


@pytest.mark.parametrize("dynamics", CLIPPING)
def test_an_input_beyond_the_range_is_warned_of(dynamics):
    model = ep.mlp([4, 5, 3], dynamics=dynamics)
    calls = [
        lambda: model(INPUT),
        lambda: ep.relax(model, INPUT, 3),
        lambda: list(ep.EquilibriumProp(5, 3, 0.1)(model, INPUT, Y)),
        lambda: list(ep.BPTT(5)(model, INPUT, Y)),
        lambda: ep.Equilibrium(model.network, dynamics, 5, 3, 0.1)(INPUT),
    ]
    for call in calls:
        assert re.match(r"`x` has values that \w+ dynamics clip", *messages(call))
        assert len(set(messages(call))) == 1


@pytest.mark.parametrize("dynamics", CLIPPING)
def test_an_input_within_the_range_is_not(dynamics):
    """The bounds themselves are values like others."""
    model = ep.mlp([4, 5, 3], dynamics=dynamics)
    assert messages(lambda: model(INPUT.clamp(0, 1))) == []


@pytest.mark.parametrize("dynamics", [ep.Prototypical(), ep.Noisy(ep.Prototypical(), 0.1)])
def test_prototypical_dynamics_take_any_input(dynamics):
    assert messages(lambda: ep.mlp([4, 5, 3], dynamics=dynamics)(INPUT)) == []


def test_what_clips_is_the_activation_of_the_input():
    """relu6 keeps 5, wide_hard_sigmoid 2; smooth activations keep all values apart; a ReLU at 0 loses nothing."""
    relu = ep.Activation(torch.relu, name="relu")
    for activation, x, lost in [
        ("relu6", 5.0, False), ("relu6", 7.0, True), ("relu6", -1.0, True), ("wide_hard_sigmoid", 1.9, False),
        ("wide_hard_sigmoid", 2.1, True), ("tanh", 3.0, False), ("sigmoid", -2.0, False), (relu, 0.0, False), (relu, -0.1, True),
    ]:  # fmt: skip
        model = ep.mlp([1, 2, 2], activation=activation, dynamics=ep.EnergyDescent(clamp=False))
        assert bool(messages(lambda m=model, v=x: m(torch.full((1, 1), v)))) == lost, (activation, x)


def test_python_shows_it_once():
    model = ep.mlp([4, 5, 3], dynamics=ep.EnergyDescent())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            model(INPUT)
    assert len(caught) == 1


@pytest.mark.parametrize("dynamics", [ep.EnergyDescent(), ep.Noisy(ep.EnergyDescent(), 0.0)])
def test_a_new_run_is_refused(dynamics, tmp_path):
    message = (
        r"`normalize` gives samples from -0\.75 to 1\.8, of which \w+ dynamics clip \d\d% of the values: leave it out"
    )
    with pytest.raises(ValueError, match=message):
        check_training(prepare_run(run(dynamics)))
    create_run(run(dynamics), tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        train_run(tmp_path / "run")
    check_training(prepare_run(run(dynamics, None)))
    check_training(prepare_run(run(dynamics, Normalize((0.0,), (2.0,)))))
    check_training(prepare_run(run(ep.Prototypical())))


def test_an_old_run_can_still_be_read_and_evaluated():
    old = run(ep.EnergyDescent())
    assert Run.from_json(old.to_json()) == old
    prepared = prepare_run(old)
    assert prepared.run == old
    with pytest.warns(UserWarning, match="dynamics clip"):
        prepared.model(prepared.test.x[:1])


def test_no_recipe_is_refused():
    for name in RECIPES:
        own = recipe(name)
        if own.data.normalize is not None:
            assert isinstance(own.model.dynamics, ep.Prototypical), name
