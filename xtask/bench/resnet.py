"""ResNet-50 v1.5 with seeded weights: no wheel ships trained ones.

What batch normalisation does in a trained network is imitated: each channel's output over a few natural images gets a seeded mean
and deviation. So activations have the ranges, the sparsity and the dependence on the input that make a benchmark meaningful;
what the network answers means nothing.
"""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

import graphs

STAGES = [(3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)]


class Evaluated(graphs.Graph):
    """A graph whose values over some inputs are known while it is built."""

    def __init__(self, images, seed):
        super().__init__()
        self.values, self.rng = {"input": images}, np.random.default_rng(seed)

    def node(self, kind, inputs, **attributes):
        output = super().node(kind, inputs, **attributes)
        self.values[output] = self.evaluate(self.nodes[-1])
        return output

    def constant(self, name, array):
        self.values[name] = array
        return super().constant(name, array)

    def evaluate(self, node):
        info = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, self.values[name].shape)
        output = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        graph = helper.make_graph([node], "node", [info(name) for name in node.input], [output])
        version = helper.make_opsetid("", graphs.OPSET)
        model = helper.make_model(graph, opset_imports=[version], ir_version=graphs.IR)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {name: self.values[name] for name in node.input})[0]

    def normalised_conv(self, x, out, kernel, stride=1, deviation=1.0):
        """A convolution whose output channels have seeded means and deviations over the inputs."""
        fan_in = self.values[x].shape[1] * kernel * kernel
        weight = self.rng.standard_normal((out, self.values[x].shape[1], kernel, kernel)) / np.sqrt(fan_in)
        pads = (kernel // 2,) * 4
        raw = graphs.Graph()
        raw.conv(x, weight.astype(np.float32), np.zeros(out, np.float32), stride, pads)
        self.values |= {name: v for name, v in zip(raw.nodes[0].input[1:], (weight.astype(np.float32), np.zeros(out, np.float32)))}
        seen = self.evaluate(raw.nodes[0]).astype(np.float64)
        scale = deviation * self.rng.uniform(0.5, 1.5, out) / (seen.std(axis=(0, 2, 3)) + 1e-3)
        bias = deviation * self.rng.normal(0, 0.3, out) - seen.mean(axis=(0, 2, 3)) * scale
        weight = weight * scale[:, None, None, None]
        return self.conv(x, weight.astype(np.float32), bias.astype(np.float32), stride, pads)


def resnet50(images):
    """The graph, from a few prepared images [n, 3, 224, 224]."""
    graph = Evaluated(images, seed=50)
    x = graph.node("Relu", [graph.normalised_conv("input", 64, 7, 2)])
    x = graph.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for repeats, width, first_stride in STAGES:
        for repeat in range(repeats):
            stride, start = (first_stride if repeat == 0 else 1), x
            x = graph.node("Relu", [graph.normalised_conv(x, width, 1)])
            x = graph.node("Relu", [graph.normalised_conv(x, width, 3, stride)])
            # Less than the shortcut's deviation, or the sum would grow from block to block.
            x = graph.normalised_conv(x, 4 * width, 1, deviation=0.5)
            if repeat == 0:
                start = graph.normalised_conv(start, 4 * width, 1, stride)
            x = graph.node("Relu", [graph.node("Add", [x, start])])
    features = graph.values[x].mean(axis=(2, 3), dtype=np.float64)
    weight = graph.rng.standard_normal((1000, 2048)) * 0.1
    # Without what all inputs have in common, or one class would win for all of them.
    bias = -weight @ features.mean(axis=0)
    return graph.model(graph.classify(x, weight.astype(np.float32), bias.astype(np.float32)))
