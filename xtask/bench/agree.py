"""How far the agent's outputs are from ONNX Runtime's exact ones: `agree.py AGENT MODEL NAME CACHE COUNT [EXAMPLES]`.

Prints a JSON object. NAME says which inputs suit the network: pictures, or samples jittered from the npz file EXAMPLES. One input in five
is noise over the same range. The agent runs as `whimbrel-agent run`, a folder of npz files at a time.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

import models
import pictures

PLAIN, SHARE = (np.zeros(3, np.float32), np.ones(3, np.float32)), (np.zeros(3, np.float32), np.full(3, 255.0, np.float32))
# The pictures that each network takes.
PICTURES = {"ic_resnet8": {"size": 32, "scale": PLAIN}, "vww_mobilenetv1_025": {"size": 96, "scale": SHARE}}
PICTURES |= {name: kind for name, (_, kind) in models.BUILDERS.items()}
SEED, NOISE_EVERY, BATCH = 200, 5, 50


def samples(path):
    """Natural inputs out of an npz file, one array for each."""
    with np.load(path) as arrays:
        if "pixels" in arrays:
            return list(arrays["pixels"][:, None])
        return [arrays[name] for name in arrays if "/in/" in name and int(name.split("/")[0]) < 5]


def suited(name, cache, count, examples, rng):
    if name in PICTURES:
        return list(pictures.crops(cache, count, SEED, **PICTURES[name])[:, None])
    natural = samples(examples)
    spread = np.float32(0.02 * np.std(natural))
    jittered = [natural[index % len(natural)] * np.float32(rng.uniform(0.8, 1.2)) for index in range(count)]
    return [(array + rng.normal(0, spread, array.shape)).astype(np.float32) for array in jittered]


def inputs(name, cache, count, examples):
    rng = np.random.default_rng(SEED)
    natural = suited(name, cache, count, examples, rng)
    low, high = min(a.min() for a in natural), max(a.max() for a in natural)
    noise = lambda array: rng.uniform(low, high, array.shape).astype(np.float32)
    return [noise(array) if index % NOISE_EVERY == 4 else array for index, array in enumerate(natural)]


def ours(agent, model, feed, output):
    """The agent's outputs; `feed` is the input's name and its values."""
    name, arrays = feed
    outputs = []
    for start in range(0, len(arrays), BATCH):
        with tempfile.TemporaryDirectory(dir=pathlib.Path.cwd()) as folder:
            given, taken = pathlib.Path(folder) / "in", pathlib.Path(folder) / "out"
            given.mkdir()
            for index, array in enumerate(arrays[start : start + BATCH]):
                np.savez(given / f"{index:03}.npz", **{name: array})
            command = [agent, "run", model, "--backend", "cpu", "--inputs", given, "--outputs", taken]
            subprocess.run(command, check=True, stdout=sys.stderr)
            for path in sorted(taken.glob("*.npz")):
                with np.load(path) as answer:
                    outputs.append(answer[output])
    return np.stack(outputs)


def theirs(model, arrays, exact):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.stack([session.run(None, {name: array})[0] for array in arrays])


def quantum(model):
    """The scale of the output's last quantisation; none for a network in f32."""
    graph = onnx.load(model).graph
    constants = {i.name: i for i in graph.initializer}
    last = next(node for node in graph.node if graph.output[0].name in node.output)
    if last.op_type != "DequantizeLinear":
        return None
    return float(onnx.numpy_helper.to_array(constants[last.input[1]]))


def compare(a, b, step):
    """Agreement of `a` with the reference `b`, outputs over all inputs."""
    apart = np.abs(a.astype(np.float64) - b)
    figures = {"equal_share": float((a == b).mean()), "max_relative": float(apart.max() / np.abs(b).max())}
    if step is not None:
        quanta = np.rint(apart / step)
        figures |= {"max_quanta": int(quanta.max()), "within_one_share": float((quanta <= 1).mean())}
    if b[0].ndim == 2 and b.shape[-1] > 1:
        figures["top1_share"] = float((a.argmax(-1) == b.argmax(-1)).mean())
    return figures


def main(agent, model, name, cache, count, examples=None):
    arrays = inputs(name, pathlib.Path(cache), int(count), examples)
    graph = onnx.load(model).graph
    step, exact = quantum(model), theirs(model, arrays, exact=True)
    answer = ours(agent, model, (graph.input[0].name, arrays), graph.output[0].name)
    figures = {"inputs": len(arrays), "ours": compare(answer, exact, step)}
    if step is not None:
        figures["ort_default"] = compare(theirs(model, arrays, exact=False), exact, step)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
