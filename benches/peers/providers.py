"""Every CNN, dense and one-dimensional model of the shared directory on ONNX Runtime's providers: does the provider take the whole backbone, and
are the answers still those of the fp32 original?

Each model is exported once a preset: `generic` for ort:cpu, `openvino` and `qnn` for theirs. `hone bench --preflight` says how much the provider
takes, `hone eval` the accuracy on the evaluation set beside the original's, `hone bench` the median latency, and the agreement with the original: the
share of rows with the same best class, or the cosine where the bundle has no classes. A bundle holds the backbone; the file of the whole model of the
preset `qnn` is therefore run too, with fallback to other providers forbidden: second table. `python providers.py [--rows N] [--preset NAME] [model …] [ort:qnn …]`; `--preset` exports with that one
whatever the provider.
"""

import pathlib
import sys
import tempfile

import numpy as np
import onnxruntime as ort

import models
from shared import DATA, GESTURES, KWS_STEP, KWS_ZERO, MODELS, TARGET, hone, need_shared, run, session

PRESETS = {"ort:cpu": "generic", "ort:openvino": "openvino", "ort:qnn": "qnn"}
MOST = 1000
QNN = TARGET / "providers" / "qnn"


def image(size, more):
    return f"image:size={size}x{size},resize=none{more}"


class Set:
    """What hone exports with and what it evaluates on, in its words."""

    def __init__(self, prep, calib, data, most=MOST, least=0.97, classes=True):
        self.prep, self.calib, self.data, self.most, self.least, self.classes = prep, calib, data, most, least, classes


def keywords(tmp):
    np.save(tmp / "first100.npy", np.arange(100))
    x = DATA / "kws01/x_int8.npy"
    prep = f"tensor:scale={KWS_STEP},offset={-KWS_STEP * KWS_ZERO}"
    return Set(prep, [x, "--labels", DATA / "kws01/y.npy", "--rows", tmp / "first100.npy"], [x, "--labels", DATA / "kws01/y.npy"])


def cifar(tmp):
    np.save(tmp / "cifar.npy", np.arange(200, 300))
    x = [DATA / "cifar10/x.npy", "--labels", DATA / "cifar10/y.npy"]
    return Set(image(32, ""), [*x, "--rows", tmp / "cifar.npy"], x)


def persons(tmp):
    np.save(tmp / "first50.npy", np.arange(50))
    x = [DATA / "vww_coco/x.npy", "--labels", DATA / "vww_coco/y.npy"]
    return Set(image(96, ",norm=unit"), [*x, "--rows", tmp / "first50.npy"], x)


def imagenet(size, more, offset):
    folder = DATA / "imagenet_calib100"
    x = [folder / str(size), "--labels", folder / "list.csv", "--label-offset", offset]
    return lambda _tmp: Set(image(size, more), x, x, least=0.9)


def digits(tmp):
    x = [DATA / "mnist/t10k-images-idx3-ubyte.gz", "--labels", DATA / "mnist/t10k-labels-idx1-ubyte.gz"]
    np.save(tmp / "mnist.npy", np.arange(100))
    return Set("none", [*x, "--rows", tmp / "mnist.npy"], x)


def gestures(_tmp):
    wand = DATA / "wand_imu"
    return Set(GESTURES, [wand / "x_train.npy", "--labels", wand / "y_train.npy"], [wand / "x_test.npy", "--labels", wand / "y_test.npy"])


def machine(tmp):
    windows = models.machine(tmp).calib[0]
    return Set("none", [windows], [windows])


def speech(_tmp):
    fsdd = DATA / "fsdd_digits"
    x = [fsdd / "oww_mel.npy", "--labels", fsdd / "digit.npy"]
    return Set("none", [*x, "--rows", fsdd / "train.npy", "--cut", "conv2d_19"], [*x, "--rows", fsdd / "test.npy"], 100, classes=False)


tensorflow = ",scale=1/128,mean=1"
CASES = {
    "mlperf_tiny/dscnn_kws12": keywords,
    "mlperf_tiny/dscnn_kws12_bn": keywords,
    "mlperf_tiny/resnet8_cifar10": cifar,
    "mlperf_tiny/resnet8_cifar10_bn": cifar,
    "mlperf_tiny/mobilenetv1_025_vww": persons,
    "mlperf_tiny/mobilenetv1_025_vww_bn": persons,
    "mlperf_tiny/autoencoder_toycar": machine,
    "mlperf_tiny/autoencoder_toycar_bn": machine,
    "mnist/mnist_cntk": digits,
    "imu/wand_conv1d": gestures,
    "openwakeword/embedding_model": speech,
    "imagenet/mobilenet_v1_025_128": imagenet(128, tensorflow, 1),
    "imagenet/squeezenet1_1": imagenet(224, ",channels=bgr,mean=104:117:123", 0),
    "imagenet/mobilenet_v2_100_224": imagenet(224, tensorflow, 1),
}


def percent(share):
    return "–" if share is None else f"{100 * share:.1f} %"


def export(path, case, preset, out):
    names = case.data[0].parent / "labels.txt"
    classes = ["--model-classes", names] if case.classes and names.is_file() else []
    words = ["export", path, "--calib", *case.calib, *classes, "--prep", case.prep, "--preset", preset, "--out", out, "--name", "m", "--quiet"]
    report = hone(*words)
    if "error" in report:
        raise RuntimeError(f"{path.name}, {preset}: {report['error']}")
    return report


def one(name, case, provider, preset, exported, out):
    path, bundle = MODELS / f"{name}.onnx", out / "m.hone"
    on = ["--provider", provider]
    flight = hone("bench", bundle, *on, "--preflight")
    whole = flight["preflight"][0] if "preflight" in flight else {"verdict": flight["error"]["message"], "fallback": []}
    left = sorted({node["op"] for node in whole["fallback"]})
    verdict = whole["verdict"] + (f" (leaves {', '.join(left)})" if left else "")
    limit = ["--limit", case.most]
    has_classes = exported["agreement"] is not None and exported["no_head"] is None
    fp32 = top1 = rows = None
    if has_classes:
        seen = hone("eval", bundle, "--data", *case.data, *limit, "--original", path, *on)
        if "error" in seen:
            raise RuntimeError(f"{name} on {provider}: {seen['error']}")
        lines = {line["head"]: line for line in seen["rows"]}
        fp32, top1, rows = lines["original"]["top1"], lines["bundle"]["top1"], seen["n"]
    timed = hone("bench", bundle, *on, "--data", *case.data, *limit, "--original", path, "--scenario", "single-stream", "--seconds", 3)
    if "error" in timed or timed["failed"]:
        raise RuntimeError(f"{name} on {provider}: {timed.get('error') or timed['failed']}")
    line = next(line for line in timed["rows"] if line["provider"] == provider)
    # Whoever has no classes is compared by its embedding.
    agreement = percent(line["agreement"]) if has_classes else f"cosine {exported['cosine']:.4f} (of the file)"
    short = has_classes and line["agreement"] is not None and line["agreement"] < case.least
    cells = [name, provider, preset, verdict, rows or "–", percent(fp32), percent(top1), agreement + (" ✗" if short else ""),
             f"{line['p50_us'] / 1e3:.2f} ms"]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


class Npu:
    """The simulated NPU in this process."""

    def __init__(self):
        ort.register_execution_provider_library("QNNExecutionProvider", str(QNN / "libonnxruntime_providers_qnn.so"))
        self.device = [d for d in ort.get_ep_devices() if d.ep_name == "QNNExecutionProvider"][:1]

    def session(self, path):
        """Raises where the NPU does not take the whole file."""
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        backend = {"backend_path": str(QNN / "libQnnHtp.so"), "offload_graph_io_quantization": "0"}
        options.add_provider_for_devices(self.device, backend)
        return ort.InferenceSession(str(path), options)


def whole(name, most, npu, out, tmp):
    """A line of the second table: the whole model's file against the fp32 original, row by row."""
    case = models.CASES[name](tmp)
    rows = case.rows[:: max(1, len(case.rows) // most)][:most]
    file = next(f for f in (out / "model.int8.onnx", out / "backbone.int8.onnx") if f.is_file())
    try:
        sess = npu.session(file)
    except Exception as why:  # ONNX Runtime's exceptions have no common class
        return f"| {name} | no: {str(why).split(chr(10))[0]} | | | |"
    ours = run(sess, rows).reshape(len(rows), -1)
    reference = run(session(MODELS / f"{name}.onnx"), rows).reshape(len(rows), -1)
    cosine = (np.float64(ours) * reference).sum() / np.sqrt((np.float64(ours) ** 2).sum() * (np.float64(reference) ** 2).sum())
    same = percent((ours.argmax(1) == reference.argmax(1)).mean()) if case.labels is not None else "–"
    return f"| {name} | yes | {len(rows)} | {same} | {cosine:.4f} |"


def main():
    need_shared()
    words = sys.argv[1:]
    most, presets = MOST, PRESETS
    while words and words[0].startswith("--"):
        option, value, *words = words
        if option == "--rows":
            most = int(value)
        elif option == "--preset":
            presets = dict.fromkeys(PRESETS, value)
        else:
            sys.exit(f"{option}: --rows N or --preset NAME")
    providers = [word for word in words if word.startswith("ort:")] or list(PRESETS)
    wanted = [word for word in words if not word.startswith("ort:")]
    columns = ["model", "provider", "preset", "takes", "rows", "top-1 fp32", "top-1", "agreement", "p50"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    failed, files = [], []
    npu = Npu() if "ort:qnn" in providers and QNN.is_dir() else None
    with tempfile.TemporaryDirectory() as folder:
        tmp = pathlib.Path(folder)
        for name, make in CASES.items():
            if wanted and not any(word in name for word in wanted):
                continue
            case = make(tmp)
            case.most = min(case.most, most)
            for provider in providers:
                preset = presets[provider]
                out = tmp / f"{name}-{provider}".replace("/", "_").replace(":", "_")
                try:
                    exported = export(MODELS / f"{name}.onnx", case, preset, out)
                    one(name, case, provider, preset, exported, out)
                    if npu and provider == "ort:qnn":
                        files.append(whole(name, case.most, npu, out, tmp))
                except RuntimeError as why:
                    failed.append(str(why))
                    print(f"| {name} | {provider} | failed |", flush=True)
    if files:
        print("\n| file of the whole model | whole | rows | agreement | cosine of the outputs |\n|---|---|---|---|---|")
        print("\n".join(files), flush=True)
    for why in failed:
        print(f"failed: {why}", flush=True)
    sys.exit(1 if failed else 0)


main()
