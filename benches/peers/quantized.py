"""Quantized files side by side: ONNX Runtime's own per-channel file against hone's.

For every model: accuracy or agreement and SQNR against fp32 on rows that calibration did not see, and the time of both files in
ONNX Runtime (one thread, batch 1, interleaved; the ratio is what counts). `python quantized.py [model …]`.
"""

import pathlib
import sys
import tempfile

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from PIL import Image

from shared import DATA, MODELS, hone, interleaved_ms, need_shared, run, session, sqnr_db


def images(name, size, limit=None):
    folder = DATA / name / str(size)
    files = sorted(folder.rglob("*.jpg"))[:limit]
    return np.stack([np.asarray(Image.open(f).convert("RGB"), np.float32) for f in files])


def mobilenet(x):
    return np.ascontiguousarray((x / 128 - 1).transpose(0, 3, 1, 2))


def squeezenet(x):
    return np.ascontiguousarray((x[..., ::-1] - np.float32([104, 117, 123])).transpose(0, 3, 1, 2))


def wand(x):
    x = x.copy()
    x[..., :3] = (x[..., :3] + 4) / 8
    x[..., 3:] = (x[..., 3:] + 2000) / 4000
    return np.ascontiguousarray(x.transpose(0, 2, 1))


def cases():
    """name -> (model file, calibration rows, evaluation rows, labels or None), rows as the model wants them."""
    load = lambda *p: np.load(DATA.joinpath(*p))
    imagenet = lambda size, f: (f(images("imagenet_calib100", size)), f(images("flowers5", size)), None)
    kws = ((load("kws01", "x_int8.npy").astype(np.float32) - 83) * np.float32(0.5847029089927673))[:, None]
    cifar = load("cifar10", "x.npy").astype(np.float32).transpose(0, 3, 1, 2)
    vww = (load("vww_coco", "x.npy").astype(np.float32) / 255).transpose(0, 3, 1, 2)
    mel = load("fsdd_digits", "oww_mel.npy")[..., None]
    train, test = load("fsdd_digits", "train.npy"), load("fsdd_digits", "test.npy")
    return {
        "mobilenet_v1_025_128": lambda: ("imagenet/mobilenet_v1_025_128.onnx", *imagenet(128, mobilenet)),
        "mobilenet_v2_100_224": lambda: ("imagenet/mobilenet_v2_100_224.onnx", *imagenet(224, mobilenet)),
        "squeezenet1_1": lambda: ("imagenet/squeezenet1_1.onnx", *imagenet(224, squeezenet)),
        "dscnn_kws12": lambda: ("mlperf_tiny/dscnn_kws12.onnx", kws[:100], kws[100:], load("kws01", "y.npy")[100:]),
        "resnet8_cifar10": lambda: ("mlperf_tiny/resnet8_cifar10.onnx", cifar[900:], cifar[:900], load("cifar10", "y.npy")[:900]),
        "mobilenetv1_025_vww": lambda: ("mlperf_tiny/mobilenetv1_025_vww.onnx", vww[np.arange(128) % 5 < 2], vww[np.arange(128) % 5 >= 2], load("vww_coco", "y.npy")[np.arange(128) % 5 >= 2]),
        "wand_conv1d": lambda: ("imu/wand_conv1d.onnx", wand(load("wand_imu", "x_train.npy")), wand(load("wand_imu", "x_test.npy")), load("wand_imu", "y_test.npy")),
        "openwakeword": lambda: ("openwakeword/embedding_model.onnx", mel[train[::6]], mel[test], None),
    }


class Reader(CalibrationDataReader):
    def __init__(self, name, rows):
        self.rows = iter([{name: r[None]} for r in rows])

    def get_next(self):
        return next(self.rows, None)


def logits_model(path, out):
    """The model without its last softmax, so that SQNR compares logits."""
    model = onnx.version_converter.convert_version(onnx.load(path), 13) if onnx.load(path).opset_import[0].version < 13 else onnx.load(path)
    last = [n for n in model.graph.node if model.graph.output[0].name in n.output][0]
    if last.op_type == "Softmax":
        model.graph.output[0].name = last.input[0]
        model.graph.node.remove(last)
        while len(model.graph.output[0].type.tensor_type.shape.dim):
            model.graph.output[0].type.tensor_type.shape.dim.pop()
    onnx.save(model, out)


def compare(name, case, folder):
    file, calib, test, labels = case()
    calib, test = calib.astype(np.float32), np.ascontiguousarray(test.astype(np.float32))
    logits_model(MODELS / file, folder / "fp32.onnx")
    float_session = session(folder / "fp32.onnx")
    input_name = float_session.get_inputs()[0].name
    quantize_static(
        folder / "fp32.onnx", folder / "peer.onnx", Reader(input_name, calib), quant_format=QuantFormat.QDQ,
        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )
    np.save(folder / "calib.npy", calib)
    cut = ["--cut", "conv2d_19"] if name == "openwakeword" else []
    report = hone("export", folder / "fp32.onnx", "--calib", folder / "calib.npy", "--out", folder / "out", "--name", "m", *cut)
    if "error" in report:
        print(f"{name}: {report['error']}")
        return
    ours = folder / "out" / "model.int8.onnx"
    files = [folder / "fp32.onnx", folder / "peer.onnx", ours]
    reference, peer, mine = (run(session(f, precise=True), test).reshape(len(test), -1) for f in files)
    ms = interleaved_ms([session(f) for f in files], test[:1])
    answer = reference.argmax(1)
    is_classifier = name != "openwakeword"
    agree = lambda y: f"{(y.argmax(1) == answer).mean():.3f}" if is_classifier else "  –  "
    right = lambda y: f"{(y.argmax(1) == labels).mean():.3f}" if labels is not None else "  –  "
    print(
        f"{name:22} accuracy {right(reference)} / {right(peer)} / {right(mine)}   agreement {agree(peer)} / {agree(mine)}   "
        f"SQNR {sqnr_db(reference, peer):5.1f} / {sqnr_db(reference, mine):5.1f} dB   "
        f"ms {ms[0]:.3f} / {ms[1]:.3f} / {ms[2]:.3f}   time ratio hone/peer {ms[2] / ms[1]:.3f}   export {report['seconds']:.1f} s",
        flush=True,
    )


def main():
    need_shared()
    print("fp32 / ONNX Runtime per-channel min-max / hone")
    table = cases()
    for name in sys.argv[1:] or table:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, table[name], pathlib.Path(folder))


main()
