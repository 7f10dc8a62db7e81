"""`ConvNet`: shapes, order of connections, skips, gains, untied weights, and invalid arguments."""

import pytest
import torch

import eqprop as ep
from eqprop.training.config.run import Data, Run

READOUT = ep.CrossEntropyReadout(512, 10)


def shapes(model):
    return [p.shape for p in model.network.populations]


def test_shapes_of_the_networks_of_the_papers():
    p_conv = ep.convnet((1, 28, 28), (32, 64))
    assert shapes(p_conv) == [(1, 28, 28), (32, 12, 12), (64, 4, 4), (10,)]
    assert [tuple(p.shape) for p in p_conv.parameters()] == [
        (32, 1, 5, 5), (32,), (64, 32, 5, 5), (64,), (10, 1024), (10,),
    ]  # fmt: skip
    dchn = ep.ConvNet((3, 32, 32), (128, 256, 512, 512), kernel_size=3, padding=1)
    assert dchn.shapes() == [(3, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2), (10,)]
    laborieux = ep.ConvNet(
        (3, 32, 32), (128, 256, 512, 512), kernel_size=3, padding=(1, 1, 1, 0), dense=(), cost=READOUT
    )
    assert laborieux.shapes()[-1] == (512, 1, 1)


def test_connections_are_ordered_by_upper_population_and_skips_are_strided():
    model = ep.convnet(
        (3, 16, 16), (4, 4, 6, 6), kernel_size=3, padding=1, stride=(1, 2, 1, 2), pool=None, dense=(5,), skips=((0, 2), (2, 4))
    )  # fmt: skip
    assert shapes(model) == [(3, 16, 16), (4, 16, 16), (4, 8, 8), (6, 8, 8), (6, 4, 4), (5,)]
    assert model.network.ends == ((0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (2, 4), (4, 5))
    skip = model.network.connections[2]
    assert isinstance(skip, ep.Conv2d)
    assert (tuple(skip.weight.shape), skip.stride, skip.bias) == ((4, 3, 1, 1), 2, None)


def test_a_skip_finds_the_stride_that_fits_both_sides():
    spec = ep.ConvNet((1, 5, 7), (1,), kernel_size=(2,), stride=3, padding=0, pool=None, skips=((0, 1),))
    assert spec.shapes()[1] == (1, 2, 2)
    assert spec.build().network.connections[1].stride == 4


def test_every_combination_settles_and_predicts():
    for pool in ("max", "avg", "softmax", None):
        for tied in (True, False):
            model = ep.convnet((2, 9, 7), (3,), kernel_size=3, pool=pool, dense=(5, 4), tied=tied)
            assert model(torch.rand(3, 2, 9, 7)).shape == (3, 4)
            assert all(p.grad is None for p in model.parameters())


def test_gains_multiply_the_initial_weights_of_torch():
    def built(gain):
        torch.manual_seed(7)
        return list(ep.convnet((1, 8, 8), (2, 3), kernel_size=2, gain=gain).parameters())

    plain, same, each = built(1.0), built(0.5), built((0.5, 2.0, 3.0))
    for n, (p, q, r) in enumerate(zip(plain, same, each, strict=True)):
        torch.testing.assert_close(q, 0.5 * p)
        torch.testing.assert_close(r, (0.5, 2.0, 3.0)[n // 2] * p)


def test_feedback_weights_start_at_their_angle_and_come_last():
    torch.manual_seed(0)
    model = ep.convnet((1, 12, 12), (4, 8), kernel_size=3, tied=False, angle=60)
    names = [name for name, _ in model.named_parameters()]
    assert [name.split(".")[-1] for name in names[-2:]] == ["feedback", "feedback"]
    untied = model.network.connections[1]
    cosine = torch.cosine_similarity(untied.upward.weight.flatten(), untied.feedback.flatten(), 0)
    assert torch.rad2deg(torch.acos(cosine)).item() == pytest.approx(60, abs=8)  # 288 signs


def test_a_run_stores_the_specification():
    spec = ep.ConvNet(
        (1, 8, 8), (2, 2), kernel_size=(3, 3), padding=1, stride=(1, 1), pool=None, skips=((0, 2),), gain=(1, 0.5, 2)
    )
    run = Run("mine", Data("digits"), spec, ep.EquilibriumProp(7, 3, 0.1), ep.training.SGD(0.1), epochs=1)
    again = Run.from_json(run.to_json())
    assert again == run
    lists = ep.ConvNet(
        [1, 8, 8], [2, 2], kernel_size=[3, 3], padding=1, stride=[1, 1], pool=None, skips=[[0, 2]], gain=[1, 0.5, 2]
    )
    assert (lists, hash(lists)) == (spec, hash(spec))
    assert again.build().settle.steps == 7  # default: as long as the free phase


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_shape": (28, 28)}, r"`input_shape` must be \(channels, height, width\), got \(28, 28\)"),
        ({"channels": ()}, "`channels` must name at least one"),
        ({"channels": (4, 0)}, "`channels` must be a whole number of at least 1, got 0"),
        ({"channels": 4}, "`channels` must be a list of whole numbers, got 4"),
        ({"dense": 10}, "`dense` must be a list of whole numbers, got 10"),
        ({"kernel_size": (5, 5, 5)}, "`kernel_size` must be one value, or 2 of them, one per convolution, got 3"),
        ({"gain": (1.0, 1.0)}, "`gain` must be one value, or 3 of them"),
        ({"gain": 0.0}, "`gain` must be a finite number above 0, got 0.0"),
        ({"padding": -1}, "`padding` must be a whole number of at least 0, got -1"),
        ({"pool": "mean"}, "`pool` must be one of"),
        ({"pool": None, "pool_size": 3}, "`pool_size` is 3, but `pool` is None: leave it out, or name a pooling"),
        ({"kernel_size": 29}, r"population 1 would be empty: kernel 29, .* nothing of 28 x 28"),
        ({"channels": (4, 4, 4)}, r"population 3 would be empty: .* nothing of 4 x 4"),
        ({"skips": ((1, 0),)}, r"`skips` must be pairs of images, the lower one first, from 0 to 2, got \(1, 0\)"),
        ({"skips": ((1, 3),)}, r"`skips` must be pairs of images"),
        ({"skips": ((0, 2),)}, None),
        ({"skips": ((0, 1),)}, "`skips` joins populations 0 and 1, but no stride makes 28 x 28 and 12 x 12 meet"),
        ({"dense": ()}, "`dense` is empty, so the last image is the output: give a `cost` that reads it out"),
        ({"skips": (3,)}, "`skips` must be pairs of populations, got 3"),
        ({"angle": 30.0}, "`angle` is 30.0, but tied weights are their own feedback"),
        ({"activation": "sgmoid"}, "did you mean 'sigmoid'"),
    ],
)
def test_invalid_arguments(wrong, message):
    choices = {"input_shape": (1, 28, 28), "channels": (4, 4)} | wrong
    if message is None:
        ep.ConvNet(**choices)
        return
    with pytest.raises(ValueError, match=message):
        ep.ConvNet(**choices)
