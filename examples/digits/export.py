"""Weights to an ONNX graph, and that graph to static int8 in QDQ form."""

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

OPSET = 13
IR_VERSION = 8  # the one of opset 13's time, so that old readers accept the file


def float_model(weights: dict[str, np.ndarray], class_order: list[int] | None = None) -> onnx.ModelProto:
    """The float32 graph: `image` [1, 1, 8, 8] in 0..1 -> `logits` [1, 10].

    `class_order[i]` is the trained class that output i carries; the trained order where it is absent.
    """
    weights = dict(weights)
    if class_order is not None:
        weights["classes.w"] = weights["classes.w"][:, class_order]
        weights["classes.b"] = weights["classes.b"][class_order]
    nodes = [
        _conv("conv1", "image", "a1"),
        helper.make_node("Relu", ["a1"], ["r1"], "relu1"),
        _conv("conv2", "r1", "a2"),
        helper.make_node("Relu", ["a2"], ["r2"], "relu2"),
        helper.make_node("MaxPool", ["r2"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["features"], "flatten", axis=1),
    ]
    top = "features"
    if "hidden.w" in weights:
        nodes += [_gemm("hidden", top, "a3"), helper.make_node("Relu", ["a3"], ["r3"], "relu3")]
        top = "r3"
    nodes.append(_gemm("classes", top, "logits"))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return _model(graph)


def int8_model(model: onnx.ModelProto, calibration: np.ndarray) -> onnx.ModelProto:
    """`model` with int8 weights (per channel) and uint8 activations, ranges from `calibration` [N, 1, 8, 8]."""
    quiet = logging.getLogger()
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # the quantiser recommends a pre-processing that this plain graph does not need
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
            onnx.save(onnx.shape_inference.infer_shapes(model), source)
            quantize_static(
                source,
                target,
                _Images(calibration),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                calibrate_method=CalibrationMethod.MinMax,
            )
            quantised = onnx.load(target)
    finally:
        quiet.setLevel(level)
    del quantised.graph.value_info[:]
    return _model(quantised.graph)


def with_contrast_temperature(model: onnx.ModelProto, ink: float) -> onnx.ModelProto:
    """Divides the logits by a temperature taken from the image's contrast.

    Pixels are treated as either blank or `ink`, so that the variance is `mean * (ink - mean)`. Where the mean is above
    `ink`, that is negative and the square root is NaN: the mistake that version 4 carries on purpose.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == "logits":
                node.output[i] = "plain_logits"
    unit = float(np.sqrt(ink * ink / 4))  # the largest contrast that the formula gives
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([[ink]], np.float32), "ink"),
            numpy_helper.from_array(np.array([[1 / unit]], np.float32), "contrast_unit"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["image"], ["mean"], "mean", axes=[2, 3], keepdims=1),
            helper.make_node("Flatten", ["mean"], ["mean_row"], "mean_row", axis=1),
            helper.make_node("Sub", ["ink", "mean_row"], ["room"], "room"),
            helper.make_node("Mul", ["mean_row", "room"], ["variance"], "variance"),
            helper.make_node("Sqrt", ["variance"], ["contrast"], "contrast"),
            helper.make_node("Mul", ["contrast", "contrast_unit"], ["temperature"], "temperature"),
            helper.make_node("Div", ["plain_logits", "temperature"], ["logits"], "temper"),
        ]
    )
    return _model(graph)


def _conv(name: str, source: str, target: str) -> onnx.NodeProto:
    return helper.make_node(
        "Conv", [source, f"{name}.w", f"{name}.b"], [target], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
    )


def _gemm(name: str, source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Gemm", [source, f"{name}.w", f"{name}.b"], [target], name)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="digits"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Images(CalibrationDataReader):
    def __init__(self, images: np.ndarray):
        self._left = iter(images.astype(np.float32))

    def get_next(self):
        image = next(self._left, None)
        return None if image is None else {"image": image[None]}
