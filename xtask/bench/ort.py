"""Median time of one inference in ONNX Runtime, one thread, in milliseconds: `ort.py MODEL RUNS`."""

import json
import sys
import time

import numpy as np
import onnxruntime

path, runs = sys.argv[1], int(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
rng = np.random.default_rng(1)
feed = {
    i.name: rng.random([d if isinstance(d, int) else 1 for d in i.shape], dtype=np.float32)
    for i in session.get_inputs()
}
times = []
for turn in range(runs + runs // 10 + 1):
    start = time.perf_counter()
    session.run(None, feed)
    if turn > runs // 10:
        times.append((time.perf_counter() - start) * 1000)
print(json.dumps({"median_ms": float(np.median(times)), "version": onnxruntime.__version__}))
