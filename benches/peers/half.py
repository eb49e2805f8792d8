"""The native engine in half precision beside ONNX Runtime in fp32: whole models, batch 1, one thread, rounds interleaved.

ONNX Runtime runs the model as it is (input float32), hone the plan that its own lowering makes of it (f16 weights and activations, input
f16). Every ratio is one round's, both sides timed within milliseconds of each other; the median of them is what counts on a machine that has
other work. `python half.py [model …]`.
"""

import pathlib
import sys
import tempfile

import numpy as np

from shared import MODELS, Native, build_examples, lower, mean_us, min_median, need_shared, session

# Model, sample inputs.
CASES = {
    "autoencoder (AD)": ("mlperf_tiny/autoencoder_toycar", "autoencoder_toycar"),
    "DS-CNN (KWS)": ("mlperf_tiny/dscnn_kws12", "dscnn_kws12"),
    "ResNet-8 (IC)": ("mlperf_tiny/resnet8_cifar10", "resnet8_cifar10"),
    "MobileNetV1 0.25 (VWW)": ("mlperf_tiny/mobilenetv1_025_vww", "mobilenetv1_025_vww"),
    "MobileNetV1 0.25 128": ("imagenet/mobilenet_v1_025_128", "mobilenet_v1_025_128"),
    "MobileNetV2 224": ("imagenet/mobilenet_v2_100_224", "mobilenet_v2_100_224"),
    "SqueezeNet 1.1": ("imagenet/squeezenet1_1", "squeezenet1_1"),
    "openWakeWord": ("openwakeword/embedding_model", "oww_embedding"),
    "wand": ("imu/wand_conv1d", "wand_conv1d"),
    "MNIST": ("mnist/mnist_cntk", "mnist_cntk"),
}
ROUNDS = 60


def prepare(model, samples, plan):
    """ONNX Runtime's session with an input; hone's plan is written."""
    source = MODELS / f"{model}.onnx"
    lower(source, plan)
    row = np.load(MODELS / "sample_io" / f"{samples}.in.npy").astype(np.float32)[:1]
    peer = session(source)
    return peer, peer.get_inputs()[0].name, row


def main():
    need_shared()
    build_examples()
    names = [n for n in CASES if not sys.argv[1:] or any(word in n for word in sys.argv[1:])]
    with tempfile.TemporaryDirectory() as folder:
        plans = [pathlib.Path(folder) / f"{at}.plan" for at in range(len(names))]
        ready = [prepare(*CASES[name], plan) for name, plan in zip(names, plans, strict=True)]
        sizes = [((MODELS / f"{CASES[name][0]}.onnx").stat().st_size, plan.stat().st_size) for name, plan in zip(names, plans, strict=True)]
        times = [([], []) for _ in names]
        with Native(plans) as native:
            for _ in range(ROUNDS):
                for at, (peer, input_name, row) in enumerate(ready):
                    theirs, ours = times[at]
                    theirs.append(mean_us(lambda: peer.run(None, {input_name: row})))
                    ours.append(native.us(at))
    print("| model | ONNX file, plan, KB | ONNX Runtime fp32 µs, min / median | hone f16 | hone ÷ ONNX Runtime, min / median / median of rounds |")
    print("|---|--:|--:|--:|--:|")
    for name, (file, plan), (theirs, ours) in zip(names, sizes, times, strict=True):
        rounds = np.median(np.array(ours) / np.array(theirs))
        ratio = f"{min(ours) / min(theirs):.2f} / {np.median(ours) / np.median(theirs):.2f} / {rounds:.2f}"
        print(f"| {name} | {file / 1e3:.0f}, {plan / 1e3:.0f} | {min_median(theirs)} | {min_median(ours)} | {ratio} |")


if __name__ == "__main__":
    main()
