"""The network, and its ONNX form.

    image [N, 1, 8, 8], 0 to 1   →   Conv-BN-ReLU, five depthwise separable blocks   →   mean over positions
    →   embedding [N, 96]        →   Gemm   →   logits [N, classes]

The ONNX file is written node by node from the trained parameters: opset 13, BatchNormalization kept as nodes of its
own, so that what the file holds does not depend on the exporter of the day.
"""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

EMBEDDING = 96
# (channels out, stride) of each depthwise separable block after the stem.
BLOCKS = [(48, 1), (64, 1), (96, 2), (96, 1), (EMBEDDING, 1)]
STEM = 32


class Unit(nn.Module):
    """Conv-BN-ReLU."""

    def __init__(self, cin, cout, kernel, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        units, cin = [("stem", Unit(1, STEM, 3))], STEM
        for i, (cout, stride) in enumerate(BLOCKS, 1):
            units += [(f"block{i}_depthwise", Unit(cin, cin, 3, stride, cin)), (f"block{i}_pointwise", Unit(cin, cout, 1))]
            cin = cout
        self.units = nn.Sequential()
        for name, unit in units:
            self.units.add_module(name, unit)
        self.classifier = nn.Linear(cin, classes)

    def embed(self, x):
        return self.units(x).mean((2, 3))

    def forward(self, x):
        return self.classifier(self.embed(x))


def to_onnx(net, path, doc):
    """Write `net` to `path`: input `image`, outputs `logits`; the embedding is the tensor `embedding`."""
    nodes, weights, x = [], [], "image"

    def tensor(name, value):
        weights.append(numpy_helper.from_array(value.detach().numpy().astype(np.float32), name))
        return name

    for name, unit in net.units.named_children():
        conv, bn = unit.conv, unit.bn
        nodes.append(helper.make_node(
            "Conv", [x, tensor(f"{name}.weight", conv.weight)], [f"{name}_conv"], name=f"{name}_conv", group=conv.groups,
            kernel_shape=list(conv.kernel_size), strides=list(conv.stride), pads=list(conv.padding) * 2, dilations=[1, 1],
        ))  # fmt: skip
        parameters = [tensor(f"{name}.bn.{k}", v) for k, v in
                      (("scale", bn.weight), ("bias", bn.bias), ("mean", bn.running_mean), ("variance", bn.running_var))]  # fmt: skip
        nodes.append(helper.make_node("BatchNormalization", [f"{name}_conv", *parameters], [f"{name}_bn"], name=f"{name}_bn", epsilon=float(np.float32(bn.eps))))
        nodes.append(helper.make_node("Relu", [f"{name}_bn"], [f"{name}_relu"], name=f"{name}_relu"))
        x = f"{name}_relu"
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["embedding"], name="flatten", axis=1))
    fc = net.classifier
    nodes.append(helper.make_node("Gemm", ["embedding", tensor("classifier.weight", fc.weight), tensor("classifier.bias", fc.bias)], ["logits"], name="classifier", transB=1))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", fc.out_features])
    graph = helper.make_graph(nodes, "glyphs", [image], [logits], weights, doc_string=doc)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="hone-models")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
