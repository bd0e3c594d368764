#!/usr/bin/env python3
"""Makes the models of this folder and what ONNX Runtime (1.31.1, onnx 1.20.0) answers, as `NAME.onnx` and `NAME.txt`.

A line of NAME.txt is `set`, which begins another run, or `in|out NAME TYPE SIZES : VALUES`.
"""
import os
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh

HERE = os.path.dirname(os.path.abspath(__file__))
R = np.random.default_rng(5)
f = lambda *shape: R.normal(0, 1, shape).astype(np.float32)
info = lambda name, shape, kind=T.FLOAT: h.make_tensor_value_info(name, kind, shape)
node = h.make_node
ints = lambda name, *values: nh.from_array(np.array(values, np.int64), name)


def make(name, nodes, inputs, outputs, constants, sets, microsoft=False):
    graph = h.make_graph(nodes, name, inputs, outputs, constants)
    opsets = [h.make_opsetid("", 17)] + [h.make_opsetid("com.microsoft", 1)] * microsoft
    model = h.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(model, options)
    lines = []
    for feed in sets:
        lines.append("set")
        answers = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed)))
        for way, tensors in (("in", feed), ("out", answers)):
            for key, a in tensors.items():
                a = np.asarray(a)
                values = " ".join(repr(v) if a.dtype.kind != "f" else f"{v:.9g}" for v in a.ravel().tolist())
                lines.append(f"{way} {key} {a.dtype} {','.join(map(str, a.shape)) or '-'} : {values}")
    open(f"{HERE}/{name}.onnx", "wb").write(model)
    open(f"{HERE}/{name}.txt", "w").write("\n".join(lines) + "\n")


def cells():
    def cell(op, gates, directions=1, states=("h",), lens=False, peepholes=False, hidden=5, width=3, **attributes):
        constants = [nh.from_array(f(directions, gates * hidden, width), "W"), nh.from_array(f(directions, gates * hidden, hidden), "R"),
                     nh.from_array(f(directions, 2 * gates * hidden), "B")]
        inputs = [info("x", ["steps", "batch", width])]
        names = ["x", "W", "R", "B", "lens" if lens else ""] + list(states)
        if lens: inputs.append(info("lens", ["batch"], T.INT32))
        inputs += [info(s, [directions, "batch", hidden]) for s in states]
        if peepholes: names.append("P"); constants.append(nh.from_array(f(directions, 3 * hidden), "P"))
        outs = ["y", "yh"] + ["yc"] * (op == "LSTM")
        sets = []
        for steps, batch in ((4, 2), (1, 1)):
            feed = {"x": f(steps, batch, width)}
            if lens: feed["lens"] = np.array([steps, 2][:batch], np.int32)
            sets.append(feed | {s: f(directions, batch, hidden) for s in states})
        return [node(op, names, outs, hidden_size=hidden, **attributes)], inputs, [info(o, None) for o in outs], constants, sets
    make("lstm_state", *cell("LSTM", 4, 2, ("h", "c"), direction="bidirectional"))
    make("lstm_lengths", *cell("LSTM", 4, 1, ("h", "c"), lens=True, peepholes=True, clip=1.5, direction="reverse"))
    make("gru_before", *cell("GRU", 3, 2, lens=True, direction="bidirectional"))
    make("gru_after", *cell("GRU", 3, 1, linear_before_reset=1))
    make("rnn_relu", *cell("RNN", 1, 1, activations=["Relu"]))


def control():
    branch = lambda op, name, extra=[], **a: h.make_graph([node(op, ["x"] + extra, [name], **a)], name, [], [info(name, None)])
    nodes = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "one"], ["n"]), node("Equal", ["n", "four"], ["is"]),
             node("If", ["is"], ["y"], then_branch=branch("ReduceSum", "a", keepdims=0), else_branch=branch("Relu", "b"))]
    scalar = lambda name, v: nh.from_array(np.array(v, np.int64), name)
    make("if_shape", nodes, [info("x", ["a", "b"])], [info("y", None)], [scalar("one", 1), scalar("four", 4)], [{"x": f(2, 4)}, {"x": f(2, 3)}])

    body = h.make_graph([node("Identity", ["go"], ["on"]), node("Mul", ["v", "x"], ["w"]), node("Identity", ["w"], ["each"])], "body",
                        [info("i", [], T.INT64), info("go", [], T.BOOL), info("v", [2])],
                        [info("on", [], T.BOOL), info("w", [2]), info("each", [2])])
    make("loop_", [node("Loop", ["n", "", "v0"], ["last", "all"], body=body)], [info("n", [], T.INT64), info("v0", [2]), info("x", [2])],
         [info("last", None), info("all", None)], [], [{"n": np.array(k, np.int64), "v0": f(2), "x": f(2)} for k in (3, 5)])

    body = h.make_graph([node("Add", ["s", "x"], ["t"]), node("Identity", ["t"], ["e"])], "body", [info("s", [3]), info("x", [3])],
                        [info("t", [3]), info("e", [3])])
    make("scan", [node("Scan", ["s0", "xs"], ["last", "all"], body=body, num_scan_inputs=1, scan_input_axes=[1], scan_input_directions=[1], scan_output_axes=[1])],
         [info("s0", [3]), info("xs", [3, "n"])], [info("last", None), info("all", None)], [], [{"s0": f(3), "xs": f(3, k)} for k in (4, 2)])


def shapes():
    nodes = [node("Shape", ["x"], ["s"]), node("Slice", ["s", "i0", "i1"], ["n"]), node("Concat", ["n", "rest"], ["to"], axis=0),
             node("Reshape", ["x", "to"], ["flat"]), node("ConstantOfShape", ["n"], ["ones"], value=h.make_tensor("v", T.FLOAT, [1], [1.5])),
             node("Unsqueeze", ["ones", "i1"], ["column"]), node("Add", ["flat", "column"], ["y"])]
    make("shape_in_graph", nodes, [info("x", ["n", 2, "k"])], [info("y", None)], [ints("i0", 0), ints("i1", 1), ints("rest", -1)],
         [{"x": f(2, 2, 3)}, {"x": f(3, 2, 1)}])
    make("unshaped", [node("Relu", ["x"], ["r"]), node("ReduceSum", ["r"], ["y"], keepdims=0)], [info("x", None)], [info("y", None)], [],
         [{"x": f(3)}, {"x": f(2, 2, 2)}])


def dynamic():
    q = lambda *shape: R.integers(-100, 100, shape).astype(np.int8)
    constant = nh.from_array
    nodes = [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("Mul", ["s", "ws"], ["sw"]), node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
             node("Cast", ["i"], ["g"], to=T.FLOAT), node("Mul", ["g", "sw"], ["m"]), node("Add", ["m", "b"], ["y"])]
    make("dynamic_matmul", nodes, [info("x", ["n", "k", 7])], [info("y", None)],
         [constant(q(7, 6), "w"), constant(R.integers(-3, 3, 6).astype(np.int8), "wz"), constant(np.abs(f(6)) * 0.01, "ws"), constant(f(6), "b")],
         [{"x": f(2, 3, 7)}, {"x": f(1, 1, 7)}])
    nodes = [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("ConvInteger", ["q", "w", "z", "wz"], ["i"], pads=[1, 1, 1, 1]),
             node("Cast", ["i"], ["g"], to=T.FLOAT), node("Mul", ["s", "ws"], ["sw"]), node("Mul", ["g", "sw"], ["y"])]
    make("dynamic_conv", nodes, [info("x", [1, 3, "h", 5])], [info("y", None)],
         [constant((q(4, 3, 3, 3).astype(np.int16) + 128).astype(np.uint8), "w"), constant(np.uint8(131), "wz"), constant(np.float32(0.02), "ws")],
         [{"x": f(1, 3, 4, 5)}, {"x": f(1, 3, 6, 5)}])
    hidden, width = 8, 6
    names = ["x", "W", "R", "B", "", "h", "c", "", "ws", "wz", "rs", "rz"]
    scale = lambda: (R.random(2) * 0.01 + 0.002).astype(np.float32)
    constants = [constant(q(2, width, 4 * hidden), "W"), constant(q(2, hidden, 4 * hidden), "R"), constant(f(2, 8 * hidden) * 0.3, "B"),
                 constant(scale(), "ws"), constant(scale(), "rs"), constant(np.zeros(2, np.int8), "wz"), constant(np.zeros(2, np.int8), "rz")]
    make("dynamic_lstm", [node("DynamicQuantizeLSTM", names, ["y", "yh", "yc"], domain="com.microsoft", hidden_size=hidden, direction="bidirectional")],
         [info("x", ["n", "b", width]), info("h", [2, "b", hidden]), info("c", [2, "b", hidden])], [info(o, None) for o in ("y", "yh", "yc")], constants,
         [{"x": f(n, b, width), "h": f(2, b, hidden) * 0.5, "c": f(2, b, hidden) * 0.5} for n, b in ((3, 2), (1, 1))], True)
    nodes = [node("FusedMatMul", ["x", "x"], ["p"], domain="com.microsoft", transA=1, alpha=0.5), node("FastGelu", ["p", "b"], ["g"], domain="com.microsoft"),
             node("SkipLayerNormalization", ["g", "p", "b", "b"], ["y"], domain="com.microsoft", epsilon=1e-5)]
    make("fused", nodes, [info("x", [1, "n", 6])], [info("y", None)], [constant(f(6), "b")], [{"x": f(1, 4, 6)}], True)


def gates():
    """Activations written as several nodes, two of them with another number than the activation has."""
    n = lambda name, value: nh.from_array(np.float32(value), name)
    nodes = []
    for at, (shift, top) in enumerate([("three", "six"), ("two", "six"), ("three", "five")]):
        x, y = (f"v{at}" if at else "x"), f"v{at + 1}"
        nodes += [node("Add", [shift, x], [f"a{at}"]), node("Clip", [f"a{at}", "zero", top], [f"c{at}"]), node("Mul", [x, f"c{at}"], [f"m{at}"]),
                  node("Div", [f"m{at}", "six"], [y])]
    nodes += [node("Conv", ["v3", "w"], ["k"]), node("Sigmoid", ["k"], ["g"]), node("Mul", ["g", "k"], ["silu"]),
              node("Add", ["silu", "three"], ["a"]), node("Clip", ["a", "zero", "six"], ["c"]), node("Mul", ["c", "silu"], ["m"]), node("Div", ["m", "six"], ["y"])]
    make("gates", nodes, [info("x", [1, 3, "n", 5])], [info("y", None), info("m0", None)],
         [n("zero", 0), n("two", 2), n("three", 3), n("five", 5), n("six", 6), nh.from_array(f(4, 3, 1, 1), "w")],
         [{"x": f(1, 3, 4, 5) * 4}, {"x": f(1, 3, 2, 5) * 4}])


if __name__ == "__main__":
    cells(); control(); shapes(); dynamic(); gates()
