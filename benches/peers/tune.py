"""Time to a tuned head: this project against scikit-learn's LogisticRegression, in one run, one thread.

    pip install numpy scikit-learn threadpoolctl
    python benches/peers/tune.py

The features are those of `runtime/examples/time_tune.rs` in distribution: C random class means, max(0, mean * 0.35 + 0.9 * normal).
scikit-learn gets them as floats with C = 1, its default; ours as int8, once with a comparable L2 strength and once choosing it by
leave-one-out, which scikit-learn does not do here. The last column compares with 100 epochs of onnxruntime-training 1.19.2 (AdamW,
batches of 32), measured apart on the same kind of machine.
"""

import json
import os
import pathlib
import statistics
import subprocess
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRAINING_MS = {(1280, 10, 5): 13.4, (1280, 10, 20): 73, (64, 12, 20): 19.9, (384, 2, 50): 16.8, (96, 10, 5): 5.3}


def ours():
    build = ["cargo", "build", "--release", "-p", "hone-runtime", "--example", "time_tune"]
    subprocess.run(build, cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    out = subprocess.run([target / "release/examples/time_tune", "50"], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def scikit(dim, classes, shots, repeats=15):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(classes, dim))
    y = np.repeat(np.arange(classes), shots)
    x = np.maximum(0, means[y] * 0.35 + 0.9 * rng.normal(size=(len(y), dim))).astype(np.float32)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        LogisticRegression(max_iter=1000).fit(x, y)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


with threadpool_limits(1):
    print("| D, C, shots | scikit-learn ms | ours, l2 given | ratio | ours, l2 chosen | ratio | onnxruntime-training / ours given |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for row in ours():
        shape = row["dim"], row["classes"], row["shots"]
        peer = scikit(*shape)
        given, chosen = row["fixed_l2_ms"], row["chosen_l2_ms"]
        print(
            f"| {shape[0]}, {shape[1]}, {shape[2]} | {peer:.2f} | {given:.3f} | {peer / given:.1f}x "
            f"| {chosen:.3f} | {peer / chosen:.1f}x | {TRAINING_MS[shape] / given:.1f}x |"
        )
