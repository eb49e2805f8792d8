"""What the comparison scripts share: where things are, data as the models want it, figures of merit."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import onnxruntime as ort

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("HONE_SHARED", ROOT.parent / "shared"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
EXAMPLES = TARGET / "release" / "examples"
HONE = os.environ.get("HONE", str(TARGET / "release" / "hone"))
MODELS, DATA = SHARED / "models", SHARED / "data"
# Stored keywords are quantized MFCC; gestures are [time, axis], in g and degrees a second.
KWS_STEP, KWS_ZERO = np.float32(0.5847029089927673), 83
GESTURES = "tensor:perm=1:0,axis=1,scale=1/8:1/8:1/8:1/4000:1/4000:1/4000,offset=0.5"


def need_shared():
    if not MODELS.is_dir():
        print(f"{SHARED} is absent: nothing to compare on (set HONE_SHARED)")
        sys.exit(0)


def build_examples():
    """Builds `lower` and `time_plan` as `cargo xtask peers` does: with other features tract would be built anew."""
    command = ["cargo", "build", "--release", "--quiet", "--workspace", "--bins", "--example", "lower", "--example", "time_plan"]
    subprocess.run(command, cwd=ROOT, check=True)


def lower(model, plan):
    """Compiles an ONNX file for the native engine."""
    subprocess.run([EXAMPLES / "lower", model, plan], check=True, capture_output=True)


class Native:
    """A process of the native engine that times what it is asked for, so that rounds can be interleaved with those of others.

    `plans` are files, or `product:M,K,N`.
    """

    def __init__(self, plans):
        command = [EXAMPLES / "time_plan", "--serve", *plans]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.kill()
        self.server.communicate()

    def us(self, at):
        """Mean microseconds of plan number `at`, over at least a millisecond."""
        self.server.stdin.write(f"{at}\n")
        self.server.stdin.flush()
        return float(self.server.stdout.readline()) / 1e3


def min_median(times):
    return f"{min(times):.1f} / {np.median(times):.1f}"


def hone(*args):
    """Runs hone with --json; the parsed document."""
    done = subprocess.run([HONE, "--json", *map(str, args)], capture_output=True, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        raise RuntimeError(f"hone {args}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def session(path, precise=False):
    """One thread, sequential, all graph optimizations; `precise`: for answers rather than for times."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if precise:
        # Processors with AVX2 but without VNNI saturate in the fast kernels for uint8 by int8; the precise ones do not.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(sess, x, batch=1):
    """All rows through a session; the first output."""
    name = sess.get_inputs()[0].name
    return np.concatenate([sess.run(None, {name: x[i : i + batch]})[0] for i in range(0, len(x), batch)])


def sqnr_db(reference, other):
    """10 log10 of signal power over error power."""
    reference, other = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    return 10 * np.log10((reference**2).sum() / max(((reference - other) ** 2).sum(), 1e-30))


def mean_us(work, least_ns=1_000_000):
    """Mean microseconds of a call over at least a millisecond, after one call to warm up."""
    work()
    start, calls = time.perf_counter_ns(), 0
    while time.perf_counter_ns() - start < least_ns:
        work()
        calls += 1
    return (time.perf_counter_ns() - start) / calls / 1e3


def interleaved_ms(sessions, x, rounds=30):
    """Median milliseconds per session, rounds interleaved so that drift of the machine hits all alike."""
    times = [[] for _ in sessions]
    names = [s.get_inputs()[0].name for s in sessions]
    for s, name in zip(sessions, names):
        for _ in range(5):
            s.run(None, {name: x})
    for _ in range(rounds):
        for i, (s, name) in enumerate(zip(sessions, names)):
            start = time.perf_counter()
            repeats = 0
            while repeats < 1 or time.perf_counter() - start < 0.02:
                s.run(None, {name: x})
                repeats += 1
            times[i].append((time.perf_counter() - start) / repeats * 1e3)
    return [float(np.median(t)) for t in times]
