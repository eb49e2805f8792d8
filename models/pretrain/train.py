"""Pretrain the glyph network and write models/glyphs.onnx with its labels and its glyph data.

    python train.py --out DIR [--cache FILE.npz] [--steps N] [--batch N] [--seed N]

Seeded; one thread, so that the same versions on the same kind of processor give the same bytes.
"""

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

import glyphs
from augment import render
from net import EMBEDDING, Net, to_onnx

HERE = os.path.dirname(os.path.abspath(__file__))
STRENGTH = (0.4, 1.0)  # of the augmentation, drawn anew for each batch


class Sampler:
    """Batches of augmented glyphs: class first, then family, then font, so that large families do not dominate."""

    def __init__(self, data, held_out, gen, digit_weight=2.0, hand_weight=6.0):
        self.data, self.gen = data, gen
        self.outline, self.skeleton = torch.from_numpy(data["outline"]), torch.from_numpy(data["skeleton"])
        self.label = torch.from_numpy(data["label"])
        fonts = np.where(data["held_out"] == held_out)[0]
        family = data["family"][fonts]
        count = {f: (family == f).sum() for f in set(family)}
        weight = np.zeros(len(data["path"]))
        for f, name in zip(fonts, family):
            weight[f] = (hand_weight if data["handwriting"][f] else 1.0) / count[name]
        w = weight[data["font"]]
        label = data["label"]
        for k in range(len(glyphs.CLASSES)):
            w[label == k] *= (digit_weight if k < 10 else 1.0) / w[label == k].sum()
        self.cumulative = torch.from_numpy(np.cumsum(w / w.sum()))

    def rows(self, n):
        u = torch.rand(n, generator=self.gen, dtype=torch.float64)
        return torch.searchsorted(self.cumulative, u).clamp(max=len(self.label) - 1)

    def batch(self, n, strength):
        i = self.rows(n)
        return render(self.outline[i], self.skeleton[i], self.gen, strength) / 16, self.label[i]


def train(data, steps, batch, seed, log=print, lr=4e-3):
    torch.manual_seed(seed)
    gen = torch.Generator().manual_seed(seed)
    sampler = Sampler(data, False, gen)
    net = Net(len(glyphs.CLASSES))
    decay = [p for n, p in net.named_parameters() if p.ndim > 1]
    plain = [p for n, p in net.named_parameters() if p.ndim <= 1]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}], lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=steps, pct_start=0.1)
    start, total = time.time(), 0.0
    for step in range(1, steps + 1):
        strength = STRENGTH[0] + (STRENGTH[1] - STRENGTH[0]) * torch.rand((), generator=gen).item()
        x, y = sampler.batch(batch, strength)
        loss = F.cross_entropy(net(x), y, label_smoothing=0.05)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        schedule.step()
        total += loss.item()
        if step % 200 == 0:
            log(f"step {step}: loss {total / 200:.3f}, {time.time() - start:.0f} s", flush=True)
            total = 0.0
    return net.eval()


def rendered(data, held_out, n, seed, strength):
    """n augmented glyphs, classes in turn: uint8 [n, 8, 8] and labels uint8 [n]."""
    gen = torch.Generator().manual_seed(seed)
    sampler = Sampler(data, held_out, gen)
    images, labels = [], []
    count = torch.zeros(len(glyphs.CLASSES), dtype=torch.long)
    quota = torch.full_like(count, n // len(count))
    quota[: n % len(count)] += 1
    while len(images) < n:
        x, y = sampler.batch(512, strength)
        for image, k in zip((x[:, 0] * 16).to(torch.uint8), y):
            if count[k] < quota[k]:
                count[k] += 1
                images.append(image.numpy())
                labels.append(int(k))
    return np.stack(images), np.array(labels, np.uint8)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default=os.path.join(HERE, ".."))
    p.add_argument("--cache", default=os.path.join(HERE, "../../target/glyph-fields.npz"), help="where the glyph fields are kept between runs")
    p.add_argument("--steps", type=int, default=3500)
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = glyphs.load(a.cache)
    print(f"{len(data['path'])} fonts, {len(set(data['family']))} families, {data['held_out'].sum()} fonts held out", flush=True)
    net = train(data, a.steps, a.batch, a.seed)
    os.makedirs(a.out, exist_ok=True)
    to_onnx(net, os.path.join(a.out, "glyphs.onnx"), f"Letters and digits rendered from fonts; image 8 x 8, 0 to 1; embedding {EMBEDDING}.")
    with open(os.path.join(a.out, "glyphs-labels.txt"), "w") as f:
        f.writelines(c + "\n" for c in glyphs.CLASSES)
    for name, held_out, n, seed, strength in (("calib", False, 235, 11, 0.6), ("eval", True, 940, 12, 0.6)):
        x, y = rendered(data, held_out, n, seed, strength)
        np.save(os.path.join(a.out, f"glyphs-{name}.npy"), x)
        np.save(os.path.join(a.out, f"glyphs-{name}-y.npy"), y)
        with torch.no_grad():
            right = net(torch.from_numpy(x)[:, None].float() / 16).argmax(1).numpy() == y
        print(f"glyphs-{name}: {n} rows, accuracy {right.mean():.4f}")


if __name__ == "__main__":
    main()
