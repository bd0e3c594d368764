"""Where ONNX Runtime spends its time, one thread: `profile_ort.py MODEL [RUNS]` prints a Markdown table.

Layers of equal kind and shape share a row. Nodes are those of the optimised graph, so fused ones count as one; times are the
runtime's own per-node measurements, the median over the runs. Multiply-accumulates are counted without padding.
"""

import collections
import json
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

CONVOLUTIONS = ("Conv", "FusedConv", "QLinearConv")
PRODUCTS = ("Gemm", "FusedGemm", "QGemm", "QLinearMatMul", "MatMul", "ConvTranspose")


def profile(model, runs, folder):
    """Microseconds of each node in each run and its event's details; the optimised graph's nodes and shapes of constants."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    feed = {i.name: rng.standard_normal(i.shape, np.float32) for i in session.get_inputs()}
    for _ in range(runs + runs // 5 + 1):
        session.run(None, feed)
    events = json.loads(pathlib.Path(session.end_profiling()).read_text())
    times, details = collections.defaultdict(list), {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            times[name].append(event["dur"])
            details[name] = event["args"]
    graph = onnx.load(folder / "optimised.onnx").graph
    constants = {i.name: tuple(i.dims) for i in graph.initializer}
    return {name: values[-runs:] for name, values in times.items()}, details, {n.name: n for n in graph.node}, constants


def shapes(detail, field):
    return [tuple(next(iter(entry.values()))) for entry in detail[field]]


def describe(detail, node, constants):
    """A text that layers of equal kind and shape have in common, and the layer's multiply-accumulates."""
    kind = detail["op_name"]
    inputs, output = shapes(detail, "input_type_shape"), shapes(detail, "output_type_shape")[0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} if node else {}
    size = "x".join(map(str, inputs[0][1:])) + " -> " + "x".join(map(str, output[1:]))
    if kind in CONVOLUTIONS:
        kernel, group = attributes["kernel_shape"], attributes.get("group", 1)
        last = attributes.get("channels_last", 0)
        channels = inputs[0][-1 if last else 1]
        pixels = int(np.prod(output)) // output[-1 if last else 1]
        macs = int(np.prod(output)) * int(np.prod(kernel)) * channels // group
        style = "dw" if group == channels and group > 1 else "conv"
        stride = attributes.get("strides", [1, 1])[0]
        extra = " + add" if kind != "QLinearConv" and len(inputs) > 3 else ""
        return f"{kind} {style} {kernel[0]}x{kernel[1]}/{stride} {size}{extra}", macs
    if kind in PRODUCTS:
        # A transposed convolution does its kernel for each input, a product its inputs for each column.
        factor = int(np.prod(constants.get(node.input[1], (0,))[1:])) if kind == "ConvTranspose" else output[-1]
        return f"{kind} {size}", int(np.prod(inputs[0])) * factor
    return f"{kind} {size}", 0


def table(model, runs):
    with tempfile.TemporaryDirectory() as folder:
        times, details, nodes, constants = profile(model, runs, pathlib.Path(folder))
    rows = collections.defaultdict(lambda: [0, 0.0, 0])
    for name, values in times.items():
        text, macs = describe(details[name], nodes.get(name), constants)
        row = rows[text]
        row[0], row[1], row[2] = row[0] + 1, row[1] + float(np.median(values)), row[2] + macs
    total, all_macs = sum(row[1] for row in rows.values()), sum(row[2] for row in rows.values())
    print(f"total {total / 1000:.3f} ms in nodes, {all_macs / 1e6:.1f} MMAC, {all_macs / total / 1000:.1f} GMAC/s\n")
    print("| layer | count | ms | share | MMAC | GMAC/s |\n|---|---|---|---|---|---|")
    small = [0, 0.0, 0]
    for text, (count, micros, macs) in rows.items():
        if micros < total * 0.004:
            small = [small[0] + count, small[1] + micros, small[2] + macs]
            continue
        rate = f"{macs / micros / 1000:.1f}" if macs else ""
        print(f"| {text} | {count} | {micros / 1000:.3f} | {100 * micros / total:.1f} % | {macs / 1e6:.2f} | {rate} |")
    print(f"| others, each below 0.4 % | {small[0]} | {small[1] / 1000:.3f} | {100 * small[1] / total:.1f} % | {small[2] / 1e6:.2f} | |")


if __name__ == "__main__":
    table(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60)
