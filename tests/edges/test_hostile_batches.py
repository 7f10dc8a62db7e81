"""Unusual batches and models: every estimator gives the gradient of the well-formed equivalent, or refuses in one line."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import eqprop as ep

ESTIMATORS: dict[str, ep.Estimator] = {
    "EP": ep.EquilibriumProp(40, 20, 0.1, "centred"),
    "BPTT": ep.BPTT(40),
    "ImplicitDiff": ep.ImplicitDiff(40),
    "ContinualEP": ep.ContinualEP(40, 20, 0.1),
    "ContinualSGD": ep.ContinualSGD(40, 20, 0.1, rates=0.0),
}
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())


def chain() -> ep.Model:
    torch.manual_seed(0)
    return ep.mlp([3, 4, 2], activation="tanh", dynamics=ep.Prototypical(nudge="inside")).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, generator=generator, dtype=torch.double), torch.tensor([0, 1, 1, 0])


def gradients(estimator: ep.Estimator, model: ep.Model, x: Tensor, y: Tensor) -> list[Tensor]:
    for loss in estimator(model, x, y):
        loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


def inference(value: Tensor) -> Tensor:
    with torch.inference_mode():
        return value.clone()


EQUIVALENT: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "inference x": lambda x, y: (inference(x), y),
    "inference y": lambda x, y: (x, inference(y)),
    "inference y of floats": lambda x, y: (x, inference(torch.eye(2).double()[y])),
    "x requires grad": lambda x, y: (x.clone().requires_grad_(), y),
    "y requires grad": lambda x, y: (x, torch.eye(2).double()[y].requires_grad_()),
    "strided x": lambda x, y: (x.repeat_interleave(2, 1)[:, ::2], y),
    "transposed x": lambda x, y: (x.T.contiguous().T, y),
    "uint8 y": lambda x, y: (x, y.to(torch.uint8)),
    "uint16 y": lambda x, y: (x, y.to(torch.uint16)),
    "uint32 y": lambda x, y: (x, y.to(torch.uint32)),
    "int32 y": lambda x, y: (x, y.to(torch.int32)),
    "float16 y": lambda x, y: (x, torch.eye(2).half()[y]),
    "float8 y": lambda x, y: (x, torch.eye(2)[y].to(torch.float8_e4m3fn)),
}


@each_estimator
@pytest.mark.parametrize("change", EQUIVALENT.values(), ids=EQUIVALENT.keys())
def test_equivalent_batches_give_the_same_gradient(
    estimator: ep.Estimator, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> None:
    expected = gradients(estimator, chain(), *batch())
    changed = change(*batch())
    if changed[0].requires_grad and isinstance(estimator, ep.ContinualEP | ep.ContinualSGD):
        with pytest.raises(ValueError, match="`x` requires a gradient, which moving weights cannot give"):
            gradients(estimator, chain(), *changed)
        return
    torch.testing.assert_close(gradients(estimator, chain(), *changed), expected)


REFUSED: dict[str, tuple[Callable[[Tensor, Tensor], tuple[object, object]], str]] = {
    "sparse x": (lambda x, y: (x.to_sparse(), y), "`x` must be a dense tensor"),
    "compressed x": (lambda x, y: (x.to_sparse_csr(), y), "`x` must be a dense tensor"),
    "sparse y": (lambda x, y: (x, y.to_sparse()), "`y` must be a dense tensor"),
    "sparse float y": (lambda x, y: (x, torch.eye(2).double()[y].to_sparse()), "`y` must be a dense tensor"),
    "meta x": (lambda x, y: (x.to("meta"), y), "`x` is on the meta device"),
    "meta y": (lambda x, y: (x, y.to("meta")), "`y` is on the meta device"),
    "complex x": (lambda x, y: (x.to(torch.complex128), y), "`x` is torch.complex128"),
    "integer x": (lambda x, y: (x.long(), y), "`x` is torch.int64"),
    "single x": (lambda x, y: (x.float(), y), "`x` is torch.float32"),
    "complex y": (lambda x, y: (x, y.to(torch.complex64)), "`y` must be"),
    "bool y": (lambda x, y: (x, y.bool()), "`y` must be"),
    "numpy x": (lambda x, y: (x.numpy(), y), "`x` must be an object of class Tensor"),
    "list y": (lambda x, y: (x, y.tolist()), "`y` must be an object of class Tensor"),
    "empty": (lambda x, y: (x[:0], y[:0]), "`x` must be"),
    "one sample": (lambda x, y: (x[0], y[0]), "`x` must be"),
    "short y": (lambda x, y: (x, y[:3]), "`y` must be"),
}


@each_estimator
@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.filterwarnings("ignore:Sparse")
def test_other_batches_are_refused(
    estimator: ep.Estimator, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gradients(estimator, chain(), *change(*batch()))


HOOKED: dict[str, Callable[[torch.nn.Module], object]] = {
    "prune": lambda c: prune.l1_unstructured(c, "weight", 0.5),
    "spectral_norm": spectral_norm,
    "weight_norm": weight_norm,
    "forward hook": lambda c: c.register_forward_hook(lambda *_: None),
    "forward pre-hook": lambda c: c.register_forward_pre_hook(lambda *_: None),
    "backward hook": lambda c: c.register_full_backward_hook(lambda *_: None),
}


@each_estimator
@pytest.mark.parametrize("hook", HOOKED.values(), ids=HOOKED.keys())
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning", "ignore:.*spectral_norm:FutureWarning")
def test_hooked_connections_are_refused(estimator: ep.Estimator, hook: Callable[[torch.nn.Module], object]) -> None:
    model = chain()
    hook(model.network.connections[0])
    with pytest.raises(ValueError, match=r"has hooks, which phases never run.*parametrizations"):
        gradients(estimator, model, *batch())
    with pytest.raises(ValueError, match="has hooks"):
        model(batch()[0])


@each_estimator
def test_weights_pruned_for_good_train(estimator: ep.Estimator) -> None:
    model = chain()
    prune.l1_unstructured(model.network.connections[0], "weight", 0.5)
    prune.remove(model.network.connections[0], "weight")
    assert all(g.isfinite().all() for g in gradients(estimator, model, *batch()))


@pytest.mark.parametrize(
    "norm", [parametrizations.weight_norm, parametrizations.orthogonal, parametrizations.spectral_norm]
)
@pytest.mark.parametrize("name", ["EP", "ImplicitDiff", "ContinualEP", "ContinualSGD"])
def test_parametrized_weights_get_the_gradient_of_bptt(name: str, norm: Callable[[torch.nn.Module], object]) -> None:
    def parametrized() -> ep.Model:
        model = chain()
        for connection in model.network.connections:
            norm(connection)
        return model.eval()  # spectral_norm changes its estimate of the norm at each use in training mode

    exact = gradients(ESTIMATORS["BPTT"], parametrized(), *batch())
    small = {**ESTIMATORS, "EP": ep.EquilibriumProp(60, 60, 1e-3, "centred")}
    small |= {"ContinualEP": ep.ContinualEP(60, 60, 1e-3, "centred")}
    small |= {"ContinualSGD": ep.ContinualSGD(60, 60, 1e-3, rates=0.0, nudging="centred")}
    found = gradients(small[name], parametrized(), *batch())
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-5)


@each_estimator
def test_a_frozen_model_is_refused(estimator: ep.Estimator) -> None:
    with pytest.raises(ValueError, match="no parameter of `model` requires a gradient"):
        gradients(estimator, chain().requires_grad_(False), *batch())


@each_estimator
@pytest.mark.parametrize(
    "wrong", [torch.nn.Linear(3, 2), torch.nn.DataParallel(torch.nn.Linear(3, 2)), None, "mlp"], ids=type
)
def test_what_is_no_model_is_refused(estimator: ep.Estimator, wrong: ep.Model) -> None:
    with pytest.raises(ValueError, match="`model` must be an object of class Model"):
        gradients(estimator, wrong, *batch())


def test_weights_of_two_dtypes_are_refused() -> None:
    model = chain()
    model.network.connections[1].float()
    with pytest.raises(ValueError, match=r"`network`: .* is torch.float32"):
        model(batch()[0])


def test_a_model_made_in_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = chain()
    with pytest.raises(ValueError, match="`model` was made under `inference_mode`"):
        gradients(ESTIMATORS["EP"], model, *batch())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_acceleration_in_half_precision_is_refused(dtype: torch.dtype) -> None:
    model = ep.mlp([3, 4, 2], settle=ep.Settle(20, accelerate=ep.Anderson())).to(dtype)
    with pytest.raises(ValueError, match="`accelerate` needs single or double precision"):
        model(torch.rand(4, 3, dtype=dtype))
