"""Time to a tuned head: this project against scikit-learn's LogisticRegression and onnxruntime-training, in one run, one thread.

    pip install numpy scikit-learn threadpoolctl
    python benches/peers/tune.py [ROUNDS]

onnxruntime-training 1.19.2 (the last release) needs Python 3.11 or older, numpy 1 and onnx 1.16: give it a folder of its own, and name
that folder in HONE_ORT_TRAINING. Without it the published times of 100 epochs stand in, and the table says so.

    pip install --target FOLDER onnxruntime-training-cpu==1.19.2 "numpy<2" "onnx<1.17" torch
    HONE_ORT_TRAINING=FOLDER python benches/peers/tune.py

The features are those of `runtime/examples/time_tune.rs` in distribution: C random class means, max(0, mean * 0.35 + 0.9 * normal).
scikit-learn gets them as floats with C = 1, its default; onnxruntime-training trains the same linear layer with AdamW for 100 epochs in
batches of 32, which it is given ready made; ours starts from int8 embeddings, once with a comparable L2 strength and once choosing it by
leave-one-out, which neither of the others does. The three take turns, so that whatever else the machine does meets all alike; a figure is
the median over all turns of the processor time, which waiting for other programs does not add to.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPES = [(1280, 10, 5), (1280, 10, 20), (64, 12, 20), (384, 2, 50), (96, 10, 5)]
PUBLISHED_TRAINING_MS = {
    (1280, 10, 5): 13.4, (1280, 10, 20): 73, (64, 12, 20): 19.9, (384, 2, 50): 16.8, (96, 10, 5): 5.3}
EPOCHS, BATCH = 100, 32


def draw(dim, classes, shots):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(classes, dim))
    y = np.repeat(np.arange(classes), shots)
    return np.maximum(0, means[y] * 0.35 + 0.9 * rng.normal(size=(len(y), dim))).astype(np.float32), y


class Ours:
    """`time_tune`: the processor time of a process that solves REPEATS more times than another."""

    REPEATS = 60

    def __init__(self):
        build = ["cargo", "build", "--release", "-p", "hone-runtime", "--example", "time_tune"]
        subprocess.run(build, cwd=ROOT, check=True)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.program = target / "release" / "examples" / "time_tune"

    def seconds(self, repeats, shape, l2):
        process = subprocess.Popen([self.program, str(repeats), *map(str, shape), l2], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit("time_tune failed")
        return usage.ru_utime + usage.ru_stime

    def time(self, shape, l2):
        more, fewer = (self.seconds(repeats, shape, l2) for repeats in (self.REPEATS + 1, 1))
        return (more - fewer) / self.REPEATS * 1e3


def scikit(shape):
    from sklearn.linear_model import LogisticRegression

    x, y = draw(*shape)
    start = time.process_time()
    LogisticRegression(max_iter=1000).fit(x, y)
    return (time.process_time() - start) * 1e3


class Training:
    """onnxruntime-training in a process of its own, since its numpy and its onnxruntime are others."""

    def __init__(self, folder):
        env = {**os.environ, "PYTHONPATH": folder}
        words = [sys.executable, __file__, "--training"]
        self.process = subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def time(self, shape):
        print(*shape, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("onnxruntime-training stopped: is it installed in the folder that HONE_ORT_TRAINING names?")
        return float(answer)


def training():
    """The other process: a shape a line in, the milliseconds of 100 epochs out."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper
    from onnxruntime.training import artifacts
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3

    def prepare(dim, classes, folder):
        rng = np.random.default_rng(1)
        weights = [
            helper.make_tensor("w", TensorProto.FLOAT, (classes, dim), rng.normal(0, 0.01, classes * dim)),
            helper.make_tensor("b", TensorProto.FLOAT, (classes,), np.zeros(classes)),
        ]
        node = helper.make_node("Gemm", ["x", "w", "b"], ["scores"], transB=1)
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", dim])
        scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", classes])
        graph = helper.make_graph([node], "head", [x], [scores], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        # It logs every pass of its optimizer on the standard error.
        errors, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            artifacts.generate_artifacts(
                onnx.shape_inference.infer_shapes(model), requires_grad=["w", "b"], artifact_directory=str(folder),
                loss=artifacts.LossType.CrossEntropyLoss, optimizer=artifacts.OptimType.AdamW)
        finally:
            os.dup2(errors, 2)
            os.close(errors)
            os.close(nowhere)

    # The exporter talks on the standard output, which is ours to answer on.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as tmp:
        for line in sys.stdin:
            dim, classes, shots = shape = tuple(map(int, line.split()))
            folder = pathlib.Path(tmp) / "_".join(map(str, shape))
            if not folder.exists():
                folder.mkdir()
                prepare(dim, classes, folder)
            x, y = draw(*shape)
            y = y.astype(np.int64)
            state = CheckpointState.load_checkpoint(folder / "checkpoint")
            module = Module(folder / "training_model.onnx", state, folder / "eval_model.onnx", session_options=options)
            optimizer = Optimizer(folder / "optimizer_model.onnx", module)
            order = np.random.default_rng(2)
            module.train()
            start = time.process_time()
            for _ in range(EPOCHS):
                rows = order.permutation(len(y))
                for at in range(0, len(y), BATCH):
                    batch = rows[at : at + BATCH]
                    module(x[batch], y[batch])
                    optimizer.step()
                    module.lazy_reset_grad()
            print((time.process_time() - start) * 1e3, file=answers, flush=True)


def main(rounds):
    from threadpoolctl import threadpool_limits

    ours = Ours()
    folder = os.environ.get("HONE_ORT_TRAINING")
    trainer = Training(folder) if folder else None
    how = "measured in this run" if trainer else "as published, HONE_ORT_TRAINING names no folder"
    print(f"processor milliseconds, medians of {rounds} turns; onnxruntime-training: 100 epochs, {how}\n")
    print("| D, C, shots | ours, l2 given | ours, l2 chosen | scikit-learn | / chosen | onnxruntime-training | / chosen |")
    print("|---|--:|--:|--:|--:|--:|--:|", flush=True)
    with threadpool_limits(1):
        for shape in SHAPES:
            turns = []
            for _ in range(rounds):
                trained = trainer.time(shape) if trainer else PUBLISHED_TRAINING_MS[shape]
                turns.append((ours.time(shape, "given"), ours.time(shape, "chosen"), scikit(shape), trained))
            given, chosen, peer, trained = (statistics.median(column) for column in zip(*turns))
            print(
                f"| {', '.join(map(str, shape))} | {given:.3f} | {chosen:.3f} | {peer:.2f} | {peer / chosen:.1f}x "
                f"| {trained:.1f} | {trained / chosen:.1f}x |", flush=True)


if sys.argv[1:] == ["--training"]:
    training()
else:
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
