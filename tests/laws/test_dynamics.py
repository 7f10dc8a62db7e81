"""Laws of all dynamics: samples do not mix, arguments are not modified, energies decrease where theory predicts it."""

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.solvers.phase import Phase
from eqprop.solvers.settle import settle

DYNAMICS = {
    "outside": ep.Prototypical(),
    "inside": ep.Prototypical(nudge="inside"),
    "energy": ep.EnergyDescent(dt=0.3, clamp=False),
    "clamped": ep.EnergyDescent(dt=0.3),
    "code": ep.EnergyDescent(dt=0.3, output_derivative=False),
}


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_samples_do_not_mix(name, dynamics):
    model = zoo.model(name, DYNAMICS[dynamics])
    x, y = zoo.batch(model)
    together = ep.relax(model, x, 7, y, beta=0.3)
    for i in range(zoo.BATCH):
        alone = ep.relax(model, x[i : i + 1], 7, y[i : i + 1], beta=0.3)
        for a, b in zip(alone.state, together.state, strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(alone.residual[0], together.residual[i], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_arguments_are_not_modified(name, dynamics):
    model = zoo.model(name, DYNAMICS[dynamics])
    x, y = zoo.batch(model)
    start = zoo.state(model)
    drive = model.dynamics.prepare(model.network, x)
    given = [x, y, *start, drive.input, *drive.constant, *model.parameters()]
    before = [t.detach().clone() for t in given]
    ep.relax(model, x, 3, y, beta=0.2, state=start)
    with torch.no_grad():
        settle(Phase(model.network, model.dynamics, drive), start, ep.Settle(3))
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_a_phase_can_be_split_in_two(dynamics):
    model = zoo.model("deep-chain", DYNAMICS[dynamics])
    x, _ = zoo.batch(model)
    half = ep.relax(model, x, 4)
    for a, b in zip(ep.relax(model, x, 5, state=half.state).state, ep.relax(model, x, 9).state, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_small_euler_steps_descend_the_energy(name):
    model = zoo.model(name, ep.EnergyDescent(dt=0.01, clamp=False), scale=1.0)
    x, _ = zoo.batch(model)
    states = ep.relax(model, x, 60, state=zoo.state(model), trajectory=True).trajectory
    assert states is not None
    energy = torch.stack([model.energy(s, x).detach() for s in states])
    assert (energy.diff(dim=0) <= 1e-12).all()


@pytest.mark.parametrize("name", ["chain", "sigmoid-chain", "deep-chain", "skip", "lateral-output", "own-connection"])
@pytest.mark.parametrize("dynamics", ["inside", "energy"])
def test_the_energy_is_stationary_at_the_steady_state(name, dynamics):
    model = zoo.model(name, DYNAMICS[dynamics])
    x, _ = zoo.batch(model)
    settled = ep.relax(model, x, 400)
    assert settled.residual.max() < 1e-12
    leaves = tuple(s.requires_grad_() for s in settled.state)
    for slope in torch.autograd.grad(model.energy(leaves, x).sum(), leaves):
        assert slope.abs().max() < 1e-10


@pytest.mark.parametrize("dynamics", ["energy", "clamped"])
def test_energy_and_force_of_the_toy_network_agree(dynamics):
    """One Euler step equals ``-dt dE/ds`` by autograd, an independent derivation of the currents."""
    model = ep.toy(hidden=6, outputs=3, dynamics=DYNAMICS[dynamics]).double()
    x = torch.rand(2, 5, dtype=torch.double)
    leaves = tuple((0.5 * torch.rand(2, n, dtype=torch.double) + 0.25).requires_grad_() for n in (6, 3))
    down = torch.autograd.grad(model.energy(leaves, x).sum(), leaves)
    moved = ep.relax(model, x, 1, state=tuple(s.detach() for s in leaves)).state
    for s, slope, t in zip(leaves, down, moved, strict=True):
        torch.testing.assert_close(t, s.detach() - 0.3 * slope, rtol=1e-12, atol=1e-13)
