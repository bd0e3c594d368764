"""Whether ONNX Runtime's default int8 path saturates here, as it does on x86 without VNNI: `probe.py` prints {"saturates": …}."""

import json

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 64
FULL = 127


def model():
    """A quantised 1x1 convolution whose every sum of two products exceeds 16 bits, and whose result then fits 8 again."""
    constants = {
        "one": np.float32(1),
        "down": np.float32(CHANNELS * FULL),
        "zero_u": np.uint8(0),
        "zero_s": np.int8(0),
        "w": np.full((CHANNELS, CHANNELS, 1, 1), FULL, np.int8),
    }
    nodes = [
        ("QuantizeLinear", ["x", "one", "zero_u"], "xq"),
        ("DequantizeLinear", ["xq", "one", "zero_u"], "xd"),
        ("DequantizeLinear", ["w", "one", "zero_s"], "wd"),
        ("Conv", ["xd", "wd"], "sum"),
        ("QuantizeLinear", ["sum", "down", "zero_u"], "yq"),
        ("DequantizeLinear", ["yq", "one", "zero_u"], "y"),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output]) for kind, inputs, output in nodes],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CHANNELS, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def main():
    session = onnxruntime.InferenceSession(model(), providers=["CPUExecutionProvider"])
    answer = session.run(None, {"x": np.full((1, CHANNELS, 4, 4), 255, np.float32)})[0]
    print(json.dumps({"saturates": bool((answer != 255).any())}))


if __name__ == "__main__":
    main()
