"""Recipes are valid runs under unique names; published errors belong to unchanged recipes only; baselines are BPTT."""

from dataclasses import replace

import pytest

import eqprop as ep
from eqprop import papers
from eqprop.papers import PUBLISHED, RECIPES, baseline, published_errors, recipe
from eqprop.papers.registry import _PAPERS
from eqprop.training import SGD, Adam, Cosine, Data, Run, StepDecay


def steps_of(steps):
    return steps.steps if isinstance(steps, ep.Settle) else steps


def test_every_recipe_has_its_own_name():
    assert len(RECIPES) >= sum(len(module.RECIPES) for module in _PAPERS)
    assert {name: build().name for name, build in RECIPES.items()} == {name: name for name in RECIPES}


def test_every_recipe_builds_and_survives_json():
    for name in RECIPES:
        run = recipe(name)
        assert Run.from_json(run.to_json()).to_json() == run.to_json() == recipe(name).to_json(), name
        model = run.build()
        image = isinstance(run.model, ep.ConvNet)
        assert model.network.populations[0].shape == (run.model.input_shape if image else (run.model.sizes[0],)), name
        free = run.estimator.free_steps
        assert model.settle == (free if isinstance(free, ep.Settle) else ep.Settle(free)), name
        groups = run.optimizer.build(model).param_groups
        assert [group["lr"] for group in groups] == list(run.optimizer.rates), name
        assert (run.seed, run.threads) == (0, 1), name


def test_a_small_variant_is_the_same_kind_of_network():
    names = [name for name in RECIPES if f"{name}-small" in RECIPES]
    assert len(names) >= 9
    for name in names:
        full, small = recipe(name), recipe(f"{name}-small")
        assert small.data.name == full.data.name
        assert small.model.pool == full.model.pool
        assert len(small.model.channels) == len(full.model.channels)
        assert small.estimator.nudging == "centred"
        assert small.epochs <= 8
        assert published_errors(small) == ()


@pytest.mark.parametrize("name", ["eb-1h", "eb-1h-readme", "eb-2h", "eb-2h-readme"])
def test_the_energy_based_recipes_leave_out_the_outputs_derivative(name):
    """As the code of the paper does (its class EPcont)."""
    assert not recipe(name).model.dynamics.output_derivative


def test_the_baseline_is_bptt_over_the_last_steps():
    """K + 1 of the T steps; nothing else changes."""
    for name in RECIPES:
        run = recipe(name)
        other = baseline(run)
        assert other.estimator == ep.BPTT(run.estimator.free_steps, steps_of(run.estimator.nudged_steps) + 1), name
        assert replace(other, estimator=run.estimator) == run, name
        assert other.build().settle == run.build().settle, name


def test_a_baseline_unrolls_no_more_steps_than_there_are():
    run = replace(recipe("digits"), estimator=ep.EquilibriumProp(10, 10, 0.1))
    assert baseline(run).estimator == ep.BPTT(10, 10)


def test_a_baseline_keeps_the_tolerance_of_the_free_phase():
    settle = ep.Settle(50, tol=1e-4)
    run = replace(recipe("digits"), estimator=ep.EquilibriumProp(settle, ep.Settle(8), 0.1))
    assert baseline(run).estimator == ep.BPTT(settle, 9)


@pytest.mark.parametrize("estimator", [ep.BPTT(10), ep.ImplicitDiff(10)])
def test_only_ep_has_a_baseline(estimator):
    with pytest.raises(ValueError, match=rf"trained by EP .* got one trained by {type(estimator).__name__}"):
        baseline(replace(recipe("digits"), estimator=estimator))


def test_every_published_error_is_that_of_its_recipe():
    """Whatever the seed and the number of threads; of untied weights at its own initial angle."""
    for known in PUBLISHED:
        run = replace(recipe(known.recipe), seed=17, threads=2)
        if known.method == "BPTT":
            run = baseline(run)
        if known.method == "C-VF":
            run = replace(run, model=replace(run.model, angle=known.angle))
        assert published_errors(run) == (known,)
        assert known.recalled == (known.source != "Lin et al. 2024, abstract")


@pytest.mark.parametrize("name", ["p-1h-readme", "eb-1h-readme", "eb-2h-readme", "vf-1h", "digits"])
def test_recipes_without_published_errors(name):
    assert published_errors(recipe(name)) == ()


def test_other_angles_have_no_published_errors():
    run = recipe("cvf-1h")
    assert published_errors(replace(run, model=replace(run.model, angle=30))) == ()
    assert published_errors(replace(run, model=replace(run.model, tied=True))) == ()
    assert published_errors(baseline(recipe("cep-1h"))) == ()


CHANGES = {
    "beta": {"estimator": ep.EquilibriumProp(30, 10, 0.2)},
    "nudging": {"estimator": ep.EquilibriumProp(30, 10, 0.1, nudging="centred")},
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
    "untied": {"model": ep.MLP((784, 512, 10), "sigmoid", tied=False)},
    "name": {"name": "my-own"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_recipe_has_no_published_errors(change):
    assert published_errors(replace(recipe("p-1h"), **CHANGES[change])) == ()


def test_the_folder_of_the_data_changes_nothing():
    own, moved = recipe("p-1h"), replace(recipe("p-1h"), data=Data("mnist", root="/somewhere"))
    assert published_errors(moved) == published_errors(own)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("p-1", r"did you mean 'p-1h'\?"),
        ("digit", r"did you mean 'digits'\?"),
        ("eb-3h", r"did you mean 'eb-\dh'\?"),
        ("zebra", r"`eqprop recipes` lists them"),
        ("", r"`eqprop recipes` lists them"),
    ],
)
def test_an_unknown_recipe(wrong, hint):
    with pytest.raises(ValueError, match=rf"there is no recipe '{wrong}': {hint}"):
        recipe(wrong)


def test_the_old_module_is_deprecated():
    from eqprop import recipes

    for old, new in (("RECIPES", "RECIPES"), ("published", "published_errors"), ("surrogate", "surrogate_baseline")):
        with pytest.warns(
            DeprecationWarning, match=rf"`eqprop.recipes.{old}` is deprecated: use `eqprop.papers.{new}`"
        ):
            assert getattr(recipes, old) is getattr(papers, new)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = recipes.nothing
