"""Makes from a quantised ONNX network the networks that updates of it are like, for measuring what a device has to fetch.

    delta.py MODEL OUT     writes OUT/base.onnx, head.onnx, full.onnx, requantised.onnx

head         a fine-tune of the last layer: its weights and biases moved, all else as it was
full         a fine-tune of every layer: each weight moved by half a quantum on average, so that about every third changes
requantised  the same network quantised again: every scale 1 % larger, every weight rounded anew

No training data comes with the networks, so the moves are random (and the same in each run); what counts here is which
bytes of the file change.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

QUANTISED = (TensorProto.INT8, TensorProto.UINT8)


def moved(array, by, rng):
    info = np.iinfo(array.dtype)
    noise = rng.normal(0.0, by, array.shape)
    return np.clip(np.rint(array + noise), info.min, info.max).astype(array.dtype)


def weights(model):
    """The quantised weights in the order of the layers that use them, and what else the same layer's nodes hold."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    order = []
    for node in model.graph.node:
        for name in node.input:
            tensor = initializers.get(name)
            if tensor is not None and tensor.data_type in QUANTISED and len(tensor.dims) >= 2 and name not in order:
                order.append(name)
    return initializers, order


def replace(tensor, array):
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def head(model, rng):
    initializers, order = weights(model)
    replace(initializers[order[-1]], moved(numpy_helper.to_array(initializers[order[-1]]), 4.0, rng))
    biases = [t for t in model.graph.initializer if t.data_type == TensorProto.INT32 and len(t.dims) == 1]
    if biases:
        array = numpy_helper.to_array(biases[-1])
        replace(biases[-1], (array + rng.integers(-50, 51, array.shape)).astype(np.int32))


def full(model, rng):
    initializers, order = weights(model)
    for name in order:
        replace(initializers[name], moved(numpy_helper.to_array(initializers[name]), 0.5, rng))


def requantised(model, _):
    initializers, order = weights(model)
    for name in order:
        array = numpy_helper.to_array(initializers[name])
        replace(initializers[name], np.rint(array / 1.01).astype(array.dtype))
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            replace(tensor, (numpy_helper.to_array(tensor) * 1.01).astype(np.float32))


def main(source, out):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.load(source), out / "base.onnx")
    for kind in (head, full, requantised):
        model = onnx.load(source)
        kind(model, np.random.default_rng(1))
        onnx.save(model, out / f"{kind.__name__}.onnx")


if __name__ == "__main__":
    main(*sys.argv[1:])
