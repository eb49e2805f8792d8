"""Every CNN and dense model of the shared directory through `hone inspect` and `hone export`, int8 and fp16.

The table shows the cut that was chosen, what export measured itself, and the accuracy of the written file in ONNX Runtime beside
the published columns (fp32; ONNX Runtime's `quantize_static`, "int8 ref"). Then the calibration methods on one model, and the peak
memory of an export against the number of calibration images. `python models.py [name … | methods | memory]`.
"""

import gzip
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from PIL import Image

from shared import DATA, GESTURES, HONE, KWS_STEP, KWS_ZERO, MODELS, hone, need_shared, run, session

load = lambda *path: np.load(DATA.joinpath(*path))
channels_first = lambda x: np.ascontiguousarray(np.float32(x).transpose(0, 3, 1, 2))


class Set:
    """Calibration for hone (its words) and the evaluation rows for ONNX Runtime, as the model wants them."""

    def __init__(self, calib, note, rows, labels=None, reference=None):
        self.calib, self.note, self.rows, self.labels, self.reference = calib, note, rows, labels, reference or {}


def keywords(tmp):
    x = ((load("kws01", "x_int8.npy").astype(np.float32) - KWS_ZERO) * KWS_STEP)[:, None]
    np.save(tmp / "first100.npy", np.arange(100))
    prep = f"tensor:scale={KWS_STEP},offset={-KWS_STEP * KWS_ZERO}"
    words = [DATA / "kws01/x_int8.npy", "--rows", tmp / "first100.npy", "--prep", prep]
    return Set(words, "rows 0-99 of the 1000 evaluated", x, load("kws01", "y.npy"), {"all": (91.3, 91.1)})


def cifar(tmp):
    np.save(tmp / "cifar.npy", np.arange(200, 300))
    words = [DATA / "cifar10/x.npy", "--rows", tmp / "cifar.npy", "--prep", "image:size=32x32,resize=none"]
    reference = {"all": (88.0, 88.1), "first 200": (85.5, 87.5)}
    return Set(words, "rows 200-299 of the 1000 evaluated", channels_first(load("cifar10", "x.npy")), load("cifar10", "y.npy"), reference)


def persons(tmp):
    np.save(tmp / "first50.npy", np.arange(50))
    words = [DATA / "vww_coco/x.npy", "--rows", tmp / "first50.npy", "--prep", "image:size=96x96,resize=none,norm=unit"]
    x = channels_first(load("vww_coco", "x.npy") / np.float32(255))
    return Set(words, "rows 0-49 of the 128 evaluated", x, load("vww_coco", "y.npy"), {"all": (85.94, 85.94)})


def imagenet(size, prep, offset, transform, reference):
    def make(_tmp):
        folder = DATA / "imagenet_calib100"
        words = [folder / str(size), "--labels", folder / "list.csv", "--label-offset", offset]
        table = [line.rsplit(",", 1) for line in (folder / "list.csv").read_text().splitlines()[1:]]
        x = np.stack([np.asarray(Image.open(folder / str(size) / f).convert("RGB"), np.float32) for f, _ in table])
        y = np.array([int(label) + offset for _, label in table])
        words += ["--prep", f"image:size={size}x{size},resize=none,{prep}"]
        return Set(words, "the 100 images evaluated", channels_first(transform(x)), y, {"all": reference})

    return make


def digits(tmp):
    folder = DATA / "mnist"
    x = np.frombuffer(gzip.open(folder / "t10k-images-idx3-ubyte.gz").read()[16:], np.uint8).reshape(-1, 1, 28, 28)
    y = np.frombuffer(gzip.open(folder / "t10k-labels-idx1-ubyte.gz").read()[8:], np.uint8)
    np.save(tmp / "mnist.npy", np.arange(100))
    words = [folder / "t10k-images-idx3-ubyte.gz", "--labels", folder / "t10k-labels-idx1-ubyte.gz", "--rows", tmp / "mnist.npy"]
    return Set(words, "rows 0-99 of the 10000 evaluated", x.astype(np.float32), y, {"all": (98.91, None)})


def gestures(_tmp):
    x = load("wand_imu", "x_test.npy").transpose(0, 2, 1)
    half, full = (np.float32([4] * 3 + [2000] * 3)[:, None], np.float32([8] * 3 + [4000] * 3)[:, None])
    words = [DATA / "wand_imu/x_train.npy", "--labels", DATA / "wand_imu/y_train.npy", "--prep", GESTURES]
    return Set(words, "the training split", np.ascontiguousarray((x + half) / full), load("wand_imu", "y_test.npy"), {"all": (88.0, 88.0)})


def machine(tmp):
    frames = np.fromfile(DATA / "ad_toycar/normal_id_01_00000000_hist_librosa.bin", "<f4").reshape(-1, 128)
    windows = np.stack([frames[i : i + 5].ravel() for i in range(len(frames) - 4)])
    np.save(tmp / "windows.npy", windows)
    return Set([tmp / "windows.npy", "--calib-rows", 100], "100 of the 196 windows evaluated", windows)


def speech(_tmp):
    fsdd = DATA / "fsdd_digits"
    words = [fsdd / "oww_mel.npy", "--labels", fsdd / "digit.npy", "--rows", fsdd / "train.npy", "--cut", "conv2d_19"]
    return Set(words, "the training split", load("fsdd_digits", "oww_mel.npy")[load("fsdd_digits", "test.npy")][..., None])


tensorflow = lambda x: x / 128 - 1
caffe = lambda x: x[..., ::-1] - np.float32([104, 117, 123])
CASES = {
    "mlperf_tiny/dscnn_kws12": keywords,
    "mlperf_tiny/dscnn_kws12_bn": keywords,
    "mlperf_tiny/resnet8_cifar10": cifar,
    "mlperf_tiny/resnet8_cifar10_bn": cifar,
    "mlperf_tiny/mobilenetv1_025_vww": persons,
    "mlperf_tiny/mobilenetv1_025_vww_bn": persons,
    "mlperf_tiny/autoencoder_toycar": machine,
    "mlperf_tiny/autoencoder_toycar_bn": machine,
    "imagenet/mobilenet_v1_025_128": imagenet(128, "scale=1/128,mean=1", 1, tensorflow, (53.0, 48.0)),
    "imagenet/squeezenet1_1": imagenet(224, "channels=bgr,mean=104:117:123", 0, caffe, (61.0, 61.0)),
    "imagenet/mobilenet_v2_100_224": imagenet(224, "scale=1/128,mean=1", 1, tensorflow, (80.0, 80.0)),
    "mnist/mnist_cntk": digits,
    "imu/wand_conv1d": gestures,
    "openwakeword/embedding_model": speech,
}


def cosine(a, b):
    a, b = np.float64(a.ravel()), np.float64(b.ravel())
    return a @ b / max(np.sqrt((a @ a) * (b @ b)), 1e-30)


def outputs(path, rows):
    sess = session(path, precise=True)
    first = sess.get_inputs()[0]
    if first.type != "tensor(float)" or sess.get_outputs()[0].type != "tensor(float)":
        raise RuntimeError(f"{path.name}: input {first.type}, output {sess.get_outputs()[0].type}; both must stay float32")
    return run(sess, rows, 1 if isinstance(first.shape[0], int) else 25).reshape(len(rows), -1)


def accuracies(y, case, reference):
    """The figures of one file: accuracy by set, or reconstruction error, or cosine alone."""
    if case.labels is not None:
        right = y.argmax(1) == case.labels
        slices = {"all": right, "first 200": right[:200]}
        return ", ".join(f"{name} {100 * slices[name].mean():.2f} ({len(slices[name])})" for name in case.reference)
    if y.shape == case.rows.shape:
        return f"mean squared error {((y - case.rows) ** 2).mean():.4f} (fp32 {((reference - case.rows) ** 2).mean():.4f})"
    return "an embedding, no classes"


def one(name, case, tmp):
    path = MODELS / f"{name}.onnx"
    seen = hone("inspect", path)
    opset = onnx.load(path, load_external_data=False).opset_import[0].version
    auto = [c["tensor"] for c in seen["cuts"] if c["automatic"]]
    print(f"\n{name}: opset {opset}, inspect cuts at {auto[0] if auto else 'nothing by itself'}, {len(seen['cuts'])} legal cuts, "
          f"fused {seen['fused'] or 'nothing'}; calibrated on {case.note}", flush=True)
    for set_name, (fp32, int8) in case.reference.items():
        print(f"    published {set_name}: fp32 {fp32}, int8 ref {int8 or '–'}")
    reference = outputs(path, case.rows)
    for precision in ("int8", "fp16"):
        out = tmp / f"{path.stem}_{precision}"
        report = hone("export", path, "--calib", *case.calib, "--precision", precision, "--out", out, "--name", "m", "--force")
        if "error" in report:
            print(f"  {precision}: FAILED {report['error']}", flush=True)
            continue
        whole = next(f for f in (out / f"model.{precision}.onnx", out / f"backbone.{precision}.onnx") if f.is_file())
        y = outputs(whole, case.rows)
        agreement = "–" if report["agreement"] is None else f"{report['agreement']:.3f}"
        print(
            f"  {precision}: cut {report['cut']}, width {report['embedding_dim']}, agreement {agreement}, SQNR {report['sqnr_db']:.1f} dB, "
            f"cosine {report['cosine']:.6f}, {report['bytes_before']} -> {report['bytes_after']} bytes, {report['seconds']:.1f} s\n"
            f"        {whole.name} in ONNX Runtime: {accuracies(y, case, reference)}; cosine to fp32 {cosine(y, reference):.6f}",
            flush=True,
        )


def methods(tmp):
    """The ways to choose ranges, and nearest rounding, on the keyword model."""
    case, path = keywords(tmp), MODELS / "mlperf_tiny/dscnn_kws12.onnx"
    print("\ndscnn_kws12: calibration methods (SQNR of the logits and of the embedding as export reports them)")
    variants = [["--ranges", "min-max"], ["--ranges", "percentile"], ["--ranges", "percentile", "--percentile", 99.9]]
    variants += [["--ranges", "entropy"], ["--ranges", "mse"], ["--rounding", "nearest"], ["--activations", "int8"]]
    for words in variants:
        report = hone("export", path, "--calib", *case.calib, *words, "--out", tmp / "method", "--name", "m", "--force")
        label = " ".join(map(str, words))
        if "error" in report:
            print(f"  {label:36} FAILED {report['error']}")
            continue
        y = outputs(tmp / "method/model.int8.onnx", case.rows)
        print(f"  {label:36} logits {report['sqnr_db']:5.2f} dB, embedding {report['embedding_sqnr_db']:5.2f} dB, "
              f"agreement {report['agreement']:.3f}, accuracy {100 * (y.argmax(1) == case.labels).mean():.1f}, {report['seconds']:.1f} s")


MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.stdout + done.stderr if done.returncode else '')
"""


def memory(tmp):
    """Peak memory against the number of images. A small process of its own measures, so that this one's memory does not count."""
    print("\nmobilenet_v2_100_224: peak memory of an export")
    case = CASES["imagenet/mobilenet_v2_100_224"](tmp)
    for rows in (25, 50, 100):
        words = ["export", MODELS / "imagenet/mobilenet_v2_100_224.onnx", "--calib", *case.calib, "--calib-rows", rows]
        words += ["--limit", rows, "--out", tmp / "memory", "--name", "m", "--force", "--quiet"]
        done = subprocess.run([sys.executable, "-c", MEASURE, HONE, *map(str, words)], capture_output=True, text=True, check=True)
        code, kilobytes, rest = done.stdout.split(" ", 2)
        print(f"  {rows:3} images: {int(kilobytes) / 1024:.0f} MiB" if code == "0" else f"  {rows:3} images: FAILED {rest}", flush=True)


def main():
    need_shared()
    words = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        tmp = pathlib.Path(folder)
        for name, make in CASES.items():
            if not words or any(word in name for word in words):
                one(name, make(tmp), tmp)
        for extra in (methods, memory):
            if not words or extra.__name__ in words:
                extra(tmp)


if __name__ == "__main__":
    main()
