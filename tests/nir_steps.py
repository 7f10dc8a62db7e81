"""Steps NIR graphs by the definitions of their nodes: reads a file and returns the output of every node at every tick."""

from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np


class Graph:
    """A graph read from a file, with the duration of a tick."""

    def __init__(self, path: Path, tick: float = 1.0):
        import nir

        graph = nir.read(path)
        self.nodes, self.tick, self.metadata = graph.nodes, tick, graph.metadata
        self.sources = defaultdict(list)
        for source, node in graph.edges:
            self.sources[node].append(source)
        self.order = self.feeding()

    def kind(self, name: str) -> str:
        return type(self.nodes[name]).__name__

    def feeding(self) -> list[str]:
        """Nodes after those that feed them; a delay feeds others with what is past, and waits for nobody."""
        waits = {
            name: [source for source in self.sources[name] if self.kind(source) != "Delay"]
            for name in self.nodes
            if self.kind(name) != "Delay"
        }
        return list(TopologicalSorter(waits).static_order())

    def run(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """``(T, B, *shape)`` of every node for an input of ``(T, B, *shape)``, from zero."""
        delays = [name for name in self.nodes if self.kind(name) == "Delay"]
        assert all(np.allclose(self.nodes[name].delay, self.tick) for name in delays)
        zeros = {name: np.zeros((values.shape[1], *self.shape(name))) for name in self.nodes}
        state, past, seen = dict(zeros), {name: zeros[name] for name in delays}, defaultdict(list)
        for value in values:
            now = dict(past)
            for name in self.order:
                comes = value if self.kind(name) == "Input" else sum(now[source] for source in self.sources[name])
                now[name] = state[name] = self.step(self.nodes[name], state[name], comes)
            past = {name: sum(now[source] for source in self.sources[name]) for name in delays}
            for name in self.nodes:
                seen[name].append(now[name])
        return {name: np.stack(values) for name, values in seen.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        (shape,) = self.nodes[name].output_type.values()
        return tuple(int(n) for n in shape)

    def step(self, node, v, i):
        """What a node gives for the input ``i``, where it gave ``v`` a tick ago."""
        kind = type(node).__name__
        if kind in ("Input", "Output"):
            return i
        if kind == "I":
            return v + self.tick * node.r * i
        if kind == "LI":
            return v + self.tick / node.tau * (node.v_leak - v + node.r * i)
        if kind == "Scale":
            return node.scale * i
        if kind == "Threshold":
            return (i > node.threshold).astype(v.dtype)
        if kind == "Linear":
            return i @ node.weight.T
        if kind == "Affine":
            return i @ node.weight.T + node.bias
        if kind == "Flatten":
            assert (node.start_dim, node.end_dim) == (0, -1)
            return i.reshape(len(i), -1)
        assert kind == "Conv2d", kind
        return correlated(i, node)


def correlated(image: np.ndarray, node) -> np.ndarray:
    """A correlation, pixel by pixel."""
    assert (node.groups, *node.dilation) == (1, 1, 1)
    (p, q), (s, t) = node.padding, node.stride
    image = np.pad(image, ((0, 0), (0, 0), (p, p), (q, q)))
    _, _, k, m = node.weight.shape
    h, w = (image.shape[2] - k) // s + 1, (image.shape[3] - m) // t + 1
    out = np.empty((len(image), len(node.weight), h, w))
    for y in range(h):
        for x in range(w):
            window = image[:, :, y * s : y * s + k, x * t : x * t + m]
            out[:, :, y, x] = np.einsum("bcij,ocij->bo", window, node.weight) + node.bias
    return out
