"""Runs a model in onnxruntime, with the steps that the bundles declare around it."""

import numpy as np
import onnxruntime as ort

MODES = ("as written", "exact int8", "default")


class Engine:
    """One model in one of `MODES`, on one thread.

    "as written" turns graph optimisation off, so that every node does what ONNX says, in float. "exact int8" fuses to
    integer arithmetic without the 16 bit saturation that "default" accepts on x86 processors without VNNI.
    """

    def __init__(self, model: bytes, mode: str = MODES[0]):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if mode == "as written":
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        elif mode == "exact int8":
            options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """scale, the model, softmax: [N, 1, 8, 8] in 0..16 -> [N, 10]. Rows are NaN where a logit is not finite."""
        images = pixels * np.float32(0.0625)
        logits = np.concatenate([self._session.run(None, {"image": image[None]})[0] for image in images])
        with np.errstate(invalid="ignore"):
            raised = np.exp(logits - logits.max(axis=1, keepdims=True))
            rows = raised / raised.sum(axis=1, keepdims=True)
        rows[~np.isfinite(logits).all(axis=1)] = np.nan
        return rows


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of right answers; no answer is a wrong one."""
    answered = np.isfinite(probabilities).all(axis=1)
    return float((answered & (np.nan_to_num(probabilities).argmax(axis=1) == labels)).mean())


def failed(probabilities: np.ndarray) -> float:
    """Share of images without a finite answer."""
    return float((~np.isfinite(probabilities).all(axis=1)).mean())
