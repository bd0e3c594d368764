"""Another engine, held ready to be measured: `peer.py ENGINE MODEL THREADS`; engines are ort, ort-exact, openvino and litert.

Prints a line of JSON once the model is loaded, then answers each line on standard input with a line of JSON: `run SECONDS` measures runs
for at least so long, `memory` tells the peak of this process's memory. Between commands it waits in a blocking read. What is
timed is the engine's own call, its inputs and outputs bound beforehand; 0.1 to 0.3 microseconds of it are Python's.
"""

import gc
import json
import sys
import time

import numpy as np

WARM_UP_SHARE, RUNS_MIN = 0.2, 5


def random_inputs(shapes):
    rng = np.random.default_rng(1)
    return {name: rng.random([int(size) for size in shape], dtype=np.float32) for name, shape in shapes.items()}


def ort(threads, exact=False):
    """ONNX Runtime with its default options, or with sums of products that never saturate."""
    import onnxruntime

    def load(model):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def bind(session):
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        binding = session.io_binding()
        feed = random_inputs({i.name: i.shape for i in session.get_inputs()})
        values = [value(array) for array in feed.values()]
        for name, bound in zip(feed, values):
            binding.bind_ortvalue_input(name, bound)
        for output in session.get_outputs():
            values.append(value(np.zeros(output.shape, np.float32)))
            binding.bind_ortvalue_output(output.name, values[-1])
        run, raw = session._sess.run_with_iobinding, binding._iobinding
        # The arguments keep what is bound alive.
        return lambda _values=values, _binding=binding: run(raw, None)

    return onnxruntime.__version__, load, bind


def openvino(threads):
    """OpenVINO, told to answer one request fast; in f32 only where the model says so, since its default may be bf16."""
    import openvino

    core = openvino.Core()
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }

    def load(model):
        return core.compile_model(model, "CPU", hints)

    def bind(compiled):
        request = compiled.create_infer_request()
        feed = random_inputs({port.any_name: port.shape for port in compiled.inputs})
        for name, array in feed.items():
            request.set_tensor(name, openvino.Tensor(array))
        run = super(type(request), request).infer
        # Nothing to set, outputs shared instead of copied, strings left as they are.
        return lambda: run({}, True, False)

    return openvino.__version__.split("-")[0], load, bind


def litert(threads):
    """LiteRT with its default kernels, XNNPACK's."""
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    def load(model):
        interpreter = Interpreter(model, num_threads=threads)
        interpreter.allocate_tensors()
        return interpreter

    def bind(interpreter):
        rng = np.random.default_rng(1)
        for detail in interpreter.get_input_details():
            limits = np.iinfo(detail["dtype"])
            values = rng.integers(limits.min, limits.max + 1, detail["shape"])
            interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
        return interpreter._interpreter.Invoke

    return version("ai-edge-litert"), load, bind


ENGINES = {"ort": ort, "ort-exact": lambda threads: ort(threads, exact=True), "openvino": openvino, "litert": litert}


def timed(run, seconds, runs_min=1):
    """Nanoseconds of each run."""
    clock, times = time.perf_counter_ns, []
    end = clock() + int(seconds * 1e9)
    gc.disable()
    while len(times) < runs_min or clock() < end:
        start = clock()
        run()
        times.append(clock() - start)
    gc.enable()
    return times


def measure(run, seconds):
    timed(run, seconds * WARM_UP_SHARE)
    times = np.array(timed(run, seconds, RUNS_MIN)) / 1e6
    return {"median_ms": float(np.median(times)), "min_ms": float(times.min()), "runs": len(times)}


def resident(field):
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def answer(value):
    print(json.dumps(value), flush=True)


def main(engine, model, threads):
    version, load, bind = ENGINES[engine](int(threads))
    before, start = resident("VmHWM"), time.perf_counter()
    loaded = load(model)
    load_ms = (time.perf_counter() - start) * 1000
    run = bind(loaded)
    first = timed(run, 0)[0] / 1e6
    answer({"version": version, "load_ms": load_ms, "first_run_ms": first})
    for line in sys.stdin:
        command, *rest = line.split()
        if command == "run":
            answer(measure(run, float(rest[0])))
        elif command == "memory":
            answer({"peak_rss_bytes": resident("VmHWM"), "before_load_rss_bytes": before})
        else:
            raise ValueError(f"no command {command}")


if __name__ == "__main__":
    main(*sys.argv[1:])
