"""int8 matrix products beside ONNX Runtime's (MLAS): uint8 by int8, a scale a column, one thread, rounds interleaved. `python products.py [M,K,N …]`."""

import pathlib
import sys
import tempfile

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from shared import Native, build_examples, mean_us, min_median, session

SIZES = ["256,256,256", "784,576,64", "512,1024,1024", "1,1280,10", "32,1280,10"]
ROUNDS = 60


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
    build_examples()
    sizes = sys.argv[1:] or SIZES
    times, peers = [([], []) for _ in sizes], []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            m, k, n = map(int, size.split(","))
            path = pathlib.Path(folder) / f"{size}.onnx"
            product(m, k, n, path)
            peers.append((session(path), np.random.default_rng(1).integers(0, 256, (m, k)).astype(np.uint8)))
        with Native([f"product:{size}" for size in sizes]) as native:
            for _ in range(ROUNDS):
                for at, (peer, x) in enumerate(peers):
                    theirs, ours = times[at]
                    theirs.append(mean_us(lambda: peer.run(None, {"x": x})))
                    ours.append(native.us(at))
    print("| M, K, N | ONNX Runtime µs, min / median | hone | ONNX Runtime ÷ hone |")
    print("|---|--:|--:|--:|")
    for size, (theirs, ours) in zip(sizes, times, strict=True):
        ratio = f"{min(theirs) / min(ours):.2f} / {np.median(theirs) / np.median(ours):.2f}"
        print(f"| {size} | {min_median(theirs)} | {min_median(ours)} | {ratio} |")


if __name__ == "__main__":
    main()
