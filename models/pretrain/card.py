"""The model card's figures: accuracy on the handwriting before tuning and after 1, 5 and 20 shots a class.

    python card.py [--models DIR] [--int8-model FILE --int8-backbone FILE] [--write]

fp32 is glyphs.onnx in ONNX Runtime. int8 is the same file after ONNX Runtime's own static quantization (QDQ, per-channel
weights, min-max on glyphs-calib.npy), or any two files given instead: a whole quantized model (output 0: logits) and its
backbone (output 0: embedding). The heads are scikit-learn's LogisticRegression(C=1) on embeddings divided by one number,
the root mean square of the shots. `--write` puts the table into README.md between its two marks.
"""

import argparse
import logging
import os
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sklearn.linear_model import LogisticRegression

HERE = os.path.dirname(os.path.abspath(__file__))
MARKS = ("<!-- figures: pretrain/card.py -->", "<!-- end of figures -->")
ort.set_default_logger_severity(3)
logging.disable(logging.WARNING)  # the quantizer advises what is done here already


def session(path, optimized=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # Processors with AVX2 but without VNNI saturate in ONNX Runtime's fast kernels for uint8 by int8; the precise ones give
    # the same answers everywhere.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = optimized
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path, images):
    """Output 0 of the model for uint8 images [n, 8, 8] of 0 to 16."""
    s = session(path)
    x = images[:, None].astype(np.float32) / 16
    return s.run(None, {s.get_inputs()[0].name: x})[0]


def backbone(path, out):
    """The part of the model that ends at the tensor `embedding`."""
    onnx.utils.extract_model(path, out, ["image"], ["embedding"])
    return out


def quantized(path, out, calibration):
    """ONNX Runtime's int8 form of `path`; its own basic optimizations fold BatchNormalization first."""

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rows = iter(calibration)

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {"image": row[None, None].astype(np.float32) / 16}

    folded = out + ".folded.onnx"
    session(path, optimized=folded)
    quantize_static(folded, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8)  # fmt: skip
    return out


def tuned(features, y, shots, test):
    rms = np.sqrt((features[shots] ** 2).mean())
    head = LogisticRegression(C=1.0, max_iter=5000).fit(features[shots] / rms, y[shots])
    return (head.predict(features[test] / rms) == y[test]).mean()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default=os.path.join(HERE, ".."))
    p.add_argument("--int8-model")
    p.add_argument("--int8-backbone")
    p.add_argument("--write", action="store_true")
    a = p.parse_args()
    if bool(a.int8_model) != bool(a.int8_backbone):
        p.error("--int8-model and --int8-backbone go together")

    def load(name):
        return np.load(os.path.join(a.models, name))

    x, y, test = load("digits-x.npy"), load("digits-y.npy").astype(int), load("digits-test.npy")
    classes = open(os.path.join(a.models, "glyphs-labels.txt")).read().split()
    digit = np.array([int(c[0]) if c[0].isdigit() else -1 for c in classes])
    columns = digit >= 0
    with tempfile.TemporaryDirectory() as tmp:
        fp32 = os.path.join(a.models, "glyphs.onnx")
        calibration = load("glyphs-calib.npy")
        embed = backbone(fp32, os.path.join(tmp, "backbone.onnx"))
        int8 = a.int8_model or quantized(fp32, os.path.join(tmp, "int8.onnx"), calibration)
        embed8 = a.int8_backbone or quantized(embed, os.path.join(tmp, "backbone-int8.onnx"), calibration)
        models = (fp32, int8)
        logits = [run(m, x[test]) for m in models]
        features = [run(m, x) for m in (embed, embed8)]
        glyphs = [(run(m, load("glyphs-eval.npy")).argmax(1) == load("glyphs-eval-y.npy")).mean() for m in models]
    rows = [("glyphs of fonts held out, all glyph classes", [f"{g:.3f}" for g in glyphs]),
            ("handwriting, before tuning, all glyph classes", [f"{(digit[v.argmax(1)] == y[test]).mean():.3f}" for v in logits]),
            ("handwriting, before tuning, the ten digit outputs only", [f"{(digit[columns][v[:, columns].argmax(1)] == y[test]).mean():.3f}" for v in logits])]  # fmt: skip
    for k in (1, 5, 20):
        cells = []
        for f in features:
            r = [tuned(f, y, shots, test) for shots in load(f"digits-k{k}.npy")]
            cells.append(f"{np.mean(r):.3f} ± {np.std(r):.3f}")
        rows.append((f"handwriting, {k} shot{'s' if k > 1 else ''} a class", cells))
    table = "\n".join(["| accuracy | fp32 | int8 |", "|---|---|---|", *(f"| {n} | {f} | {q} |" for n, (f, q) in rows)])
    print(table)
    if a.write:
        path = os.path.join(a.models, "README.md")
        text = open(path).read()
        head, rest = text.split(MARKS[0])
        _, tail = rest.split(MARKS[1])
        with open(path, "w") as f:
            f.write(f"{head}{MARKS[0]}\n{table}\n{MARKS[1]}{tail}")


if __name__ == "__main__":
    main()
