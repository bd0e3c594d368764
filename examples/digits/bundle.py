"""Writes a bundle folder: the model, its golden vectors and the manifest."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import Part, write_npz
from engine import Engine

GOLDEN = 16
TOLERANCE = 0.05
BINS = 10
CONFIDENCE_EDGES = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999]
REDUCE = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}


@dataclass(frozen=True)
class Source:
    """What one bundle is made from."""

    version: str
    description: str
    model: bytes  # shipped
    golden_by: bytes  # answers the golden vectors
    inputs: Part  # counted as the distribution of the inputs
    unseen: Part  # not trained on: golden vectors, and the distribution of the predictions
    lineage: dict[str, str]


def write(folder: Path, source: Source) -> None:
    """Writes `bundle.toml` and what it names into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    engine = Engine(source.golden_by)
    (folder / "model.onnx").write_bytes(source.model)
    _write_golden(folder / "golden.npz", engine, source.unseen)
    text = _head(source.version, source.description) + _features(source.inputs) + _prediction(engine, source.unseen)
    (folder / "bundle.toml").write_text(text + _lineage(source.lineage), encoding="utf-8", newline="\n")


def _write_golden(path: Path, engine: Engine, unseen: Part) -> None:
    pixels = unseen.pixels[_one_of_each(unseen.labels)[:GOLDEN]]
    arrays = {}
    for i, (image, row) in enumerate(zip(pixels, engine.probabilities(pixels), strict=True)):
        if not np.isfinite(row).all():
            raise SystemExit(f"error: writing {path}: golden vector {i} has no finite answer")
        arrays[f"{i}/in/pixels"] = image[None]
        arrays[f"{i}/out/probabilities"] = row[None]
        arrays[f"{i}/out/score"] = row.max().reshape(1, 1)
    write_npz(path, arrays)


def _one_of_each(labels: np.ndarray) -> np.ndarray:
    """Indices in the order: the first of each digit, the second of each, ..."""
    nth = np.array([int((labels[:i] == digit).sum()) for i, digit in enumerate(labels)])
    return np.lexsort((labels, nth))


def _head(version: str, description: str) -> str:
    return f"""# Written by train.py.
name = "digits"
version = "{version}"
description = {json.dumps(description)}
licence = "CC-BY-4.0"
model = "model.onnx"
labels = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

# Ink per pixel, 0 to 16.
[[inputs]]
name = "pixels"
datatype = "FP32"
shape = [1, 1, 8, 8]

[[outputs]]
name = "probabilities"
datatype = "FP32"
shape = [1, 10]

[[outputs]]
name = "label"
datatype = "BYTES"
shape = [1, 1]

[[outputs]]
name = "score"
datatype = "FP32"
shape = [1, 1]

[[pipeline.pre]]
from = "pixels"
to = "image"
do = {{ scale = {{ multiply = 0.0625, add = 0.0 }} }}

[[pipeline.post]]
from = "logits"
to = "probabilities"
do = {{ softmax = {{}} }}

[[pipeline.post]]
from = "probabilities"
to = "label"
do = {{ top_k_labels = {{ k = 1 }} }}

[[pipeline.post]]
from = "probabilities"
to = "score"
do = {{ top_k_values = {{ k = 1 }} }}

[golden]
file = "golden.npz"
count = {GOLDEN}
tolerance = {TOLERANCE}

[needs]
agent_min = "0.1.0"
memory_bytes_max = {64 << 20}
latency_ms_max = 100.0

[probation]
requests = 60
seconds = 120
requests_min = 20
error_rate_max = 0.05
crashes_max = 1
"""


def _features(inputs: Part) -> str:
    text = ""
    for name, reduce in REDUCE.items():
        values = reduce(inputs.pixels.astype(np.float64), axis=(1, 2, 3))
        shares = np.arange(1, BINS) / BINS
        edges = np.unique(np.round(np.quantile(values, shares, method="inverted_cdf"), 6))
        text += f"""
[[reference.features]]
name = "pixels_{name}"
tensor = "pixels"
reduce = {{ {name} = {{}} }}
edges = {edges.tolist()}
counts = {_counts(values, edges)}
"""
    return text


def _prediction(engine: Engine, unseen: Part) -> str:
    rows = engine.probabilities(unseen.pixels)
    classes = np.bincount(rows.argmax(axis=1), minlength=10).tolist()
    return f"""
[reference.prediction]
tensor = "probabilities"
counts = {classes}
confidence_edges = {CONFIDENCE_EDGES}
confidence_counts = {_counts(rows.max(axis=1), np.array(CONFIDENCE_EDGES))}
"""


def _counts(values: np.ndarray, edges: np.ndarray) -> list[int]:
    """Bin i holds values in [edges[i - 1], edges[i]); the outer bins are open."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).tolist()


def _lineage(lineage: dict[str, str]) -> str:
    return "\n[lineage]\n" + "".join(f"{key} = {json.dumps(text)}\n" for key, text in sorted(lineage.items()))
