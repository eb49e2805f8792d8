"""int8 matrix products beside ONNX Runtime's (MLAS): uint8 by int8, a scale a column, one thread, rounds interleaved."""

import os
import pathlib
import subprocess
import tempfile

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from shared import ROOT, mean_us, session

SIZES = ["256,256,256", "784,576,64", "512,1024,1024", "1,1280,10", "32,1280,10"]
ROUNDS = 60
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def product(m, k, n, path):
    """A QLinearMatMul with constant weights."""
    constants = {
        "w": np.random.default_rng(0).integers(-127, 128, (k, n)).astype(np.int8),
        "x_scale": np.float32(0.02), "x_zero": np.uint8(128), "w_scale": np.full(n, 0.01, np.float32),
        "w_zero": np.zeros(n, np.int8), "y_scale": np.float32(0.5), "y_zero": np.uint8(128),
    }
    names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
    graph = helper.make_graph(
        [helper.make_node("QLinearMatMul", names, ["y"])], "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [m, k])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [m, n])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def main():
    command = ["cargo", "build", "--release", "--quiet", "-p", "hone-runtime", "--example", "time_plan"]
    subprocess.run(command, cwd=ROOT, check=True)
    server = subprocess.Popen(
        [TARGET / "release" / "examples" / "time_plan", "--serve", *(f"product:{size}" for size in SIZES)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )

    def ours(at):
        server.stdin.write(f"{at}\n")
        server.stdin.flush()
        return float(server.stdout.readline()) / 1e3

    times, peers = [([], []) for _ in SIZES], []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            m, k, n = map(int, size.split(","))
            path = pathlib.Path(folder) / f"{size}.onnx"
            product(m, k, n, path)
            peers.append((session(path), np.random.default_rng(1).integers(0, 256, (m, k)).astype(np.uint8)))
        for _ in range(ROUNDS):
            for at, (peer, x) in enumerate(peers):
                times[at][0].append(mean_us(lambda: peer.run(None, {"x": x})))
                times[at][1].append(ours(at))
    server.kill()
    print("| M, K, N | ONNX Runtime µs, min / median | hone | ONNX Runtime ÷ hone |")
    print("|---|--:|--:|--:|")
    show = lambda v: f"{min(v):.1f} / {np.median(v):.1f}"
    for size, (peer, native) in zip(SIZES, times, strict=True):
        ratio = f"{min(peer) / min(native):.2f} / {np.median(peer) / np.median(native):.2f}"
        print(f"| {size} | {show(peer)} | {show(native)} | {ratio} |")


main()
