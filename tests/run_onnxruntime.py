"""Runs a model in ONNX Runtime, row by row on one thread: run_onnxruntime.py MODEL.onnx ROWS.npy OUT.npy
[default]. `default` leaves ONNX Runtime's settings as they are."""

import sys

import numpy as np
import onnxruntime

model, rows, out, *settings = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
# Processors with AVX2 but without VNNI saturate in ONNX Runtime's fast kernels for uint8 by int8; the precise ones do not.
if settings != ["default"]:
    options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
scores = [session.run(None, {name: row[None]})[0][0] for row in np.load(rows)]
np.save(out, np.stack(scores).astype(np.float32))
