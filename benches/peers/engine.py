"""The native engine beside LiteRT and ONNX Runtime: int8, batch 1, one thread, rounds interleaved.

LiteRT runs the benchmark's own int8 files (input and output int8), ONNX Runtime the file of its own quantizer (per-channel, min-max, QDQ; input
float32), hone the plan of its own export of the whole model (input int8). On processors with AVX2 but without VNNI ONNX Runtime's fast kernels saturate:
they give other answers. Its exact ones (`session.x64quantprecision`) compute what hone computes. `python engine.py [model …]`.
"""

import pathlib
import sys
import tempfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from shared import MODELS, Native, build_examples, hone, lower, mean_us, min_median, need_shared, session

# Model, sample inputs, LiteRT's file.
CASES = {
    "autoencoder (AD)": ("mlperf_tiny/autoencoder_toycar", "autoencoder_toycar", "autoencoder_toycar_int8"),
    "DS-CNN (KWS)": ("mlperf_tiny/dscnn_kws12", "dscnn_kws12", "dscnn_kws12_int8"),
    "ResNet-8 (IC)": ("mlperf_tiny/resnet8_cifar10", "resnet8_cifar10", "resnet8_cifar10_int8"),
    "MobileNetV1 0.25 (VWW)": ("mlperf_tiny/mobilenetv1_025_vww", "mobilenetv1_025_vww", "mobilenetv1_025_vww_int8"),
    "MobileNetV2 224": ("imagenet/mobilenet_v2_100_224", "mobilenet_v2_100_224", None),
}
ROUNDS = 60


class Reader(CalibrationDataReader):
    def __init__(self, name, rows):
        self.rows = iter([{name: row[None]} for row in rows])

    def get_next(self):
        return next(self.rows, None)


def prepare(name, case, folder):
    """hone's plan, ONNX Runtime's sessions (fast, exact) with an input, LiteRT's interpreter or none."""
    model, samples, litert = case
    rows = np.load(MODELS / "sample_io" / f"{samples}.in.npy").astype(np.float32)
    source = MODELS / f"{model}.onnx"
    np.save(folder / "rows.npy", rows)
    report = hone("export", source, "--calib", folder / "rows.npy", "--out", folder / "out", "--name", "m", "--rounding", "nearest", "--min-agreement", 0)
    if "error" in report:
        raise RuntimeError(f"{name}: {report['error']}")
    plan = folder / "m.plan"
    lower(folder / "out" / "model.int8.onnx", plan)
    peer = folder / "peer.onnx"
    input_name = session(source).get_inputs()[0].name
    quantize_static(
        source, peer, Reader(input_name, rows), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )
    interpreter = None
    if litert:
        interpreter = Interpreter(model_path=str(MODELS / "mlperf_tiny" / "int8_tflite" / f"{litert}.tflite"), num_threads=1)
        interpreter.allocate_tensors()
        first = interpreter.get_input_details()[0]
        interpreter.set_tensor(first["index"], np.zeros(first["shape"], first["dtype"]))
    return plan, ((session(peer), session(peer, precise=True)), input_name, rows[:1]), interpreter


def main():
    need_shared()
    build_examples()
    names = [n for n in CASES if not sys.argv[1:] or any(word in n for word in sys.argv[1:])]
    with tempfile.TemporaryDirectory() as folder:
        ready = []
        for at, name in enumerate(names):
            place = pathlib.Path(folder) / str(at)
            place.mkdir()
            ready.append(prepare(name, CASES[name], place))
        times = [([], [], [], []) for _ in names]
        with Native([plan for plan, _, _ in ready]) as native:
            for _ in range(ROUNDS):
                for at, (_, (peers, input_name, row), interpreter) in enumerate(ready):
                    litert, fast, exact, ours = times[at]
                    if interpreter:
                        litert.append(mean_us(interpreter.invoke))
                    for peer, times_of_peer in zip(peers, (fast, exact), strict=True):
                        times_of_peer.append(mean_us(lambda: peer.run(None, {input_name: row})))
                    ours.append(native.us(at))
    print("| model | LiteRT µs, min / median | ONNX Runtime | the same, exact | hone | hone ÷ LiteRT | hone ÷ ONNX Runtime | hone ÷ exact |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    show = lambda v: min_median(v) if v else "–"
    ratio = lambda a, b: f"{min(a) / min(b):.2f} / {np.median(a) / np.median(b):.2f}" if b else "–"
    for name, (litert, fast, exact, ours) in zip(names, times, strict=True):
        columns = [*map(show, (litert, fast, exact, ours)), *(ratio(ours, other) for other in (litert, fast, exact))]
        print("|", " | ".join([name, *columns]), "|")


if __name__ == "__main__":
    main()
