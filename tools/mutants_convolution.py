"""Faults in convolutions, poolings and the networks made of them."""

from mutant import Mutant

__all__ = ["CONVOLUTION"]

LAWS, NET, LOOPS = "laws/test_convolution.py", "laws/test_convnet.py", "reference/test_p_conv.py"
CONV, CORR, POOL, SPEC = "convolution.py", "correlation.py", "pooling.py", "convnet.py"

CONVOLUTION = [
    Mutant("bias not pooled away", CONV, "pooled if offset is None else pooled + offset\n", "pooled\n", LAWS),
    Mutant(
        "slopes at another image", CONV, "self._slopes(Ends(a.pre, step))", "self._slopes(Ends(0 * a.pre, step))", LAWS
    ),
    Mutant(
        "half of the kernel's contrast",
        CONV,
        "torch.cat([a.pre, a.pre - b.pre])",
        "torch.cat([a.pre, 0 * b.pre])",
        LAWS,
    ),
    Mutant("contrast of a difference of products", CONV, "torch.cat([q_a - q_b, q_b])", "torch.cat([q_a, q_b])", LAWS),
    Mutant(
        "feedback by the forward kernel",
        CONV,
        "self._filter(feedback).down(",
        "self._filter(self.weight).down(",
        LAWS,
    ),
    Mutant(
        "untied wire by the forward kernel",
        CONV,
        "back = there if feedback is self.weight else self._filter(feedback)",
        "back = there",
        "theorems/test_ep_is_bptt_images.py",
    ),
    Mutant(
        "untied currents at the nudged state", CONV, "self.up(free.pre) * (a.post", "self.up(a.pre) * (a.post", LAWS
    ),
    Mutant("gain of the upward current", CONV, "self.pooled, alpha=self.wire.gain_post", "self.pooled", LAWS),
    Mutant("gain of the downward current", CONV, "into.shape), alpha=self.gain_pre", "into.shape)", LAWS),
    Mutant("max pooling below tanh", CONV, 'if self.pool == "max" and not post.lowest >= 0:', "if False:", LAWS),
    Mutant(
        "own activation counts as positive",
        "activations.py",
        'lowest: float = float("-inf")',
        "lowest: float = 0.0",
        LAWS,
    ),
    Mutant("mean pooling by the sum", CORR, "size**-2", "1.0", LAWS),
    Mutant("mean pooling by another stride", CORR, "unsqueeze(0), stride=stride)", "unsqueeze(0), stride=1)", LAWS),
    Mutant("odd images lose their rest", CORR, "output_padding=rest", "output_padding=0", LAWS),
    Mutant("sign of the conv bias", CORR, "step.sum((0, 2, 3)) * slopes[0]", "-step.sum((0, 2, 3)) * slopes[0]", LAWS),
    Mutant(
        "input gradient of a convolution",
        CORR,
        "ctx.padding).down(left, right.shape)",
        "ctx.padding).down(-left, right.shape)",
        LAWS,
    ),
    Mutant("windows that nothing pools", POOL, "and pool is None:", "and pool == 0:", LAWS),
    Mutant("softmax pooling without the slope of p", POOL, "p * (1 + z - pooled.unsqueeze(-1))", "p", LAWS),
    Mutant(
        "windows of softmax transposed",
        POOL,
        "return z.permute(0, 1, 2, 4, 3, 5).flatten(4)",
        "return z.permute(0, 1, 2, 4, 5, 3).flatten(4)",
        LAWS,
    ),
    Mutant(
        "unpooled into the wrong size",
        POOL,
        "F.pad(q, (0, shape[3] - q.shape[3], 0, shape[2] - q.shape[2]))",
        "F.pad(q, (shape[3] - q.shape[3], 0, shape[2] - q.shape[2], 0))",
        LAWS,
    ),
    Mutant(
        "image rows in another order",
        "dense.py",
        "return s if s.dim() == 2 else s.flatten(1)",
        "return s if s.dim() == 2 else s.transpose(-1, -2).flatten(1)",
        LOOPS,
    ),
    Mutant(
        "skips without their stride",
        SPEC,
        "1, stride=strided(skip, shapes), bias=False",
        "1, stride=1, bias=False",
        NET,
    ),
    Mutant("gain left out", SPEC, "parameter.mul_(gain)", "parameter.mul_(1.0)", NET),
    Mutant("skips before the chain", SPEC, "if skip[1] == post:", "if skip[0] == post - 1:", NET),
    Mutant("pooled sizes rounded up", SPEC, "// s + 1) // (self.pool_size", "// s + 2) // (self.pool_size", NET),
]
