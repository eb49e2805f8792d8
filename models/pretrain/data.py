"""Write models/digits*.npy: the handwriting, its fixed split, and the exact shots of the model card.

    python data.py [--out DIR]

The images are the 1,797 digits that scikit-learn ships (`load_digits`): the test part of "Optical Recognition of
Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository (1998), CC BY 4.0. Values are 0 to 16.
Pretraining never reads these files.
"""

import argparse
import os

import numpy as np
from sklearn.datasets import load_digits

HERE = os.path.dirname(os.path.abspath(__file__))
TRAIN_PER_CLASS = 100
SHOTS = (1, 5, 20)
SEEDS = 5


def split(y):
    """Rows of the train and test parts, ascending: 100 a class to train, the rest to test."""
    rng = np.random.default_rng(2024)
    train = np.sort(np.concatenate([rng.permutation(np.where(y == c)[0])[:TRAIN_PER_CLASS] for c in range(10)]))
    return train.astype(np.int32), np.setdiff1d(np.arange(len(y)), train).astype(np.int32)


def shots(y, train, k, seed):
    """k rows of each class out of `train`, class after class."""
    rng = np.random.default_rng([seed, k])
    return np.concatenate([rng.permutation(train[y[train] == c])[:k] for c in range(10)]).astype(np.int32)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default=os.path.join(HERE, ".."))
    out = p.parse_args().out
    digits = load_digits()
    x, y = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    assert x.shape == (1797, 8, 8) and (x == digits.images).all() and x.max() == 16
    train, test = split(y)
    arrays = {"x": x, "y": y, "train": train, "test": test}
    for k in SHOTS:
        arrays[f"k{k}"] = np.stack([shots(y, train, k, s) for s in range(SEEDS)])
    for name, array in arrays.items():
        np.save(os.path.join(out, f"digits-{name}.npy"), array)
    with open(os.path.join(out, "digits-labels.txt"), "w") as f:
        f.writelines(f"{c}\n" for c in range(10))


if __name__ == "__main__":
    main()
