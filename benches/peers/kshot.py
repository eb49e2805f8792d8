"""k-shot accuracy of hone on the int8 embedding against the figures published with the shared data.

For every backbone: `hone export` (int8), then `hone eval --k-shot` on the same shots and the same test rows as the READMEs' tables
(`LR rms`: scikit-learn's logistic regression on embeddings divided by their RMS; int8 there is ONNX Runtime's `quantize_static`).
Two calibrations: "pretraining" takes rows of what the backbone was trained for, as on a desktop that has never seen the user's
data; "task" takes 100 training rows of the new task, which is what the published int8 column did. The sentence encoder runs on ONNX Runtime,
in int8 (published: `quantize_dynamic`) and in fp16; its other task's sentences stand for those of pretraining. `python kshot.py [name …]`.
"""

import pathlib
import sys
import tempfile

import numpy as np

from shared import DATA, MODELS, hone, need_shared

KWS_STEP, KWS_ZERO = np.float32(0.5847029089927673), 83

# Published in the READMEs of the data: k -> (int8 LR rms, fp32 LR rms), in percent.
PUBLISHED = {
    "dscnn / spoken digits": {"1": (45.4, 45.3), "5": (74.5, 75.2), "20": (89.3, 89.7), "all": (93.5, 93.5)},
    "openwakeword / spoken digits": {"1": (63.8, 62.7), "5": (89.8, 88.8), "20": (94.3, 93.4), "all": (95.0, 94.5)},
    "resnet8 / CIFAR-100": {"1": (42.6, 42.8), "5": (63.2, 63.8), "20": (71.4, 71.9), "all": (78.2, 77.2)},
    "mobilenet_v1 / flowers": {"1": (41.9, 42.8), "5": (62.0, 62.3), "20": (77.8, 77.1), "all": (79.5, 80.5)},
    "squeezenet / flowers": {"1": (41.2, 40.5), "5": (58.1, 57.5), "20": (73.9, 74.5), "all": (77.5, 78.5)},
    "mobilenet_v2 / flowers": {"1": (43.7, 44.2), "5": (70.0, 71.1), "20": (81.9, 81.6), "all": (87.0, 86.0)},
    "wand / gestures": {"1": (72.8, 72.8), "5": (84.0, 83.2), "all": (88.0, 88.0)},
    "minilm / intents": {"1": (59.3, 60.1), "5": (79.9, 81.9), "20": (90.1, 90.3), "all": (94.3, 95.7)},
    "minilm / sentiment": {"1": (53.5, 55.0), "5": (69.2, 72.6), "20": (79.9, 81.0), "100": (83.1, 84.7), "all": (84.0, 86.8)},
}
for task in ("intents", "sentiment"):
    PUBLISHED[f"minilm fp16 / {task}"] = PUBLISHED[f"minilm / {task}"]


class Case:
    """One backbone on one task: where things are, and what `hone` is to be told about them."""

    def __init__(self, model, data, folder, prep="none", cut=None, calib=None, task=None, labels=None, classes=None, shots=None, precision="int8", provider=None):
        self.model, self.data, self.folder, self.prep, self.cut = MODELS / model, data, folder, prep, cut
        self.calib, self.task, self.labels, self.classes, self.shots = calib, task, labels, classes, shots
        self.precision, self.provider = precision, provider

    def export(self, calib, out):
        words = ["export", self.model, *calib, "--prep", self.prep, "--out", out, "--name", "m", "--force", "--precision", self.precision]
        return hone(*words, *(["--cut", self.cut] if self.cut else []))

    def evaluate(self, out, draws):
        words = ["eval", out / "m.hone", "--data", self.data]
        for flag, value in (("--labels", self.labels), ("--classes", self.classes), ("--shots", self.shots), ("--provider", self.provider)):
            words += [flag, value] if value else []
        if (self.folder / "test.npy").is_file():
            words += ["--rows", self.folder / "test.npy"]
        for draw in draws:
            words += ["--k-shot", draw]
        return hone(*words)


def sixth_training_row(folder, tmp):
    """100 of the 600 (or 300) training rows, as the published figures took them."""
    train = np.load(folder / "train.npy")
    file = tmp / f"{folder.name}_calibration.npy"
    np.save(file, train[:: max(len(train) // 100, 1)][:100])
    return file


def cases(tmp):
    fsdd, flowers, cifar100, wand, intents, sentiment = (
        DATA / n for n in ("fsdd_digits", "flowers5", "cifar100_new10", "wand_imu", "clinc_home", "sentiment"))
    # The keyword set is stored as int8 steps of the benchmark; the digits are in real units, and so is the bundle's input.
    kws = tmp / "kws01.npy"
    np.save(kws, ((np.load(DATA / "kws01/x_int8.npy")[:100].astype(np.float32) - KWS_ZERO) * KWS_STEP)[:, None])
    cifar = "image:size=32x32,resize=none"
    gestures = "tensor:perm=1:0,axis=1,scale=1/8:1/8:1/8:1/4000:1/4000:1/4000,offset=0.5"
    digits = {"data": fsdd / "mfcc.npy", "folder": fsdd, "labels": fsdd / "digit.npy"}

    def rows(data, folder, *words):
        return [data, "--rows", sixth_training_row(folder, tmp), *words]

    def calib(*words):
        return ["--calib", *words]

    def flower(model, size, prep):
        folder, calibration = flowers / str(size), DATA / "imagenet_calib100" / str(size)
        return Case(
            model, folder, flowers, f"image:size={size}x{size},resize=none,{prep}", calib=calib(calibration),
            task=calib(*rows(folder, flowers, "--labels", flowers / "list.csv")), labels=flowers / "list.csv",
            classes=flowers / "labels.txt",
        )

    def sentences(folder, other, precision):
        prep = f"text:vocab={MODELS / 'text/vocab.txt'},len=64"
        return Case(
            "text/all_minilm_l6_v2_sub.onnx", folder / "text.tsv", folder, prep, cut="sentence_embedding", precision=precision,
            provider="ort:cpu", calib=calib(*rows(other / "text.tsv", other)), task=calib(*rows(folder / "text.tsv", folder)))

    joined = tmp / "wand.npz"
    both = lambda what: np.concatenate([np.load(wand / f"{what}_train.npy"), np.load(wand / f"{what}_test.npy")])
    np.savez(joined, x=both("x"), y=both("y"))
    wand_folder = tmp / "wand"
    wand_folder.mkdir()
    np.save(wand_folder / "train.npy", np.arange(100))
    np.save(wand_folder / "test.npy", np.arange(100, 125))
    for k in ("k1", "k5"):
        np.save(wand_folder / f"{k}.npy", np.load(wand / f"{k}.npy"))
    return {
        "dscnn / spoken digits": Case(
            "mlperf_tiny/dscnn_kws12.onnx", calib=calib(kws), task=calib(*rows(fsdd / "mfcc.npy", fsdd)), **digits),
        "openwakeword / spoken digits": Case(
            "openwakeword/embedding_model.onnx", fsdd / "oww_mel.npy", fsdd, cut="conv2d_19",
            task=calib(*rows(fsdd / "oww_mel.npy", fsdd)), labels=fsdd / "digit.npy"),
        "resnet8 / CIFAR-100": Case(
            "mlperf_tiny/resnet8_cifar10.onnx", cifar100 / "x.npy", cifar100, cifar,
            calib=calib(DATA / "cifar10/x.npy", "--limit", 100), task=calib(*rows(cifar100 / "x.npy", cifar100))),
        "mobilenet_v1 / flowers": flower("imagenet/mobilenet_v1_025_128.onnx", 128, "scale=1/128,mean=1"),
        "squeezenet / flowers": flower("imagenet/squeezenet1_1.onnx", 224, "channels=bgr,mean=104:117:123"),
        "mobilenet_v2 / flowers": flower("imagenet/mobilenet_v2_100_224.onnx", 224, "scale=1/128,mean=1"),
        "wand / gestures": Case(
            "imu/wand_conv1d.onnx", joined, wand_folder, gestures, task=calib(*rows(joined, wand_folder))),
        "minilm / intents": sentences(intents, sentiment, "int8"),
        "minilm / sentiment": sentences(sentiment, intents, "int8"),
        "minilm fp16 / intents": sentences(intents, sentiment, "fp16"),
        "minilm fp16 / sentiment": sentences(sentiment, intents, "fp16"),
    }


def measure(name, case, tmp):
    """One line per k; returns (calibration, difference to published int8, to published fp32), in points."""
    differences = []
    kinds = [k for k in ("k1", "k5", "k20", "k100") if (case.folder / f"{k}.npy").is_file()]
    draws = [case.folder / f"{k}.npy" for k in kinds] + [case.folder / "train.npy"]
    for label, words in (("pretraining", case.calib), ("task", case.task)):
        if words is None:
            continue
        out = tmp / f"{case.model.stem}_{label}"
        report = case.export(words, out)
        table = case.evaluate(out, draws) if "error" not in report else report
        if "error" in table:
            print(f"{name} ({label} calibration): FAILED {table['error']}", flush=True)
            continue
        for k, row in zip([*(kind[1:] for kind in kinds), "all"], table["k_shot"], strict=True):
            int8, fp32 = PUBLISHED[name][k]
            mean, sd = 100 * row["mean"], 100 * row["sd"]
            spread = f"± {sd:4.1f}" if len(row["seeds"]) > 1 else "      "
            print(
                f"{name:29} {label:12} k={k:3}  hone {mean:5.1f} {spread}   int8 LR {int8:5.1f} ({mean - int8:+5.1f})   "
                f"fp32 LR {fp32:5.1f} ({mean - fp32:+5.1f})   rows {row['n']}",
                flush=True,
            )
            differences.append((label, mean - int8, mean - fp32))
    return differences


def main():
    need_shared()
    print("hone on its int8 embedding beside the published logistic regression; (difference in points)")
    everything = []
    with tempfile.TemporaryDirectory() as folder:
        table = cases(pathlib.Path(folder))
        for name in [n for n in table if not sys.argv[1:] or any(word in n for word in sys.argv[1:])]:
            everything += measure(name, table[name], pathlib.Path(folder))
    for label in ("pretraining", "task"):
        some = np.array([d[1:] for d in everything if d[0] == label])
        if len(some):
            int8, fp32 = some.mean(0)
            met = (some[:, 0] >= -0.05).sum()
            print(f"{label} calibration: mean difference to int8 LR {int8:+.2f}, to fp32 LR {fp32:+.2f} points; "
                  f"{met} of {len(some)} rows met or beaten, the worst {some[:, 0].min():+.1f}")


main()
