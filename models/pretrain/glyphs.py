"""Fonts in, glyph fields out.

Every letter and digit of every usable font becomes two 64 x 64 images of distances:

    outline   signed distance to the glyph's outline, negative inside
    skeleton  distance to the glyph's centre line

A threshold on the first gives the printed glyph, bolder or lighter; a threshold on the second gives the same glyph
drawn with a pen of constant width, which is nearer to handwriting. Distances survive warping and resampling, so the
augmentation works on them and draws the strokes last.

No handwriting is read here.
"""

import hashlib
import os
import re
import subprocess

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt

HERE = os.path.dirname(os.path.abspath(__file__))
SIZE = 64  # side of a field, pixels
BOX = 44  # the glyph's longer side inside it, pixels
UNIT = 4.0  # stored steps per pixel of distance
FILES_PER_FAMILY = 4
HELD_OUT_OF = 12  # one family in this many is kept for evaluation

# Glyph classes. Characters that no reader tells apart once size and position are normalized share a class, named by
# its first member.
CLASSES = [
    "0Oo", "1Il", "2", "3", "4", "5", "6", "7", "8", "9",
    "A", "a", "B", "b", "Cc", "D", "d", "E", "e", "F", "f", "G", "g", "H", "h", "i", "Jj", "Kk", "L", "M", "m",
    "N", "n", "Pp", "Q", "q", "R", "r", "Ss", "T", "t", "Uu", "Vv", "Ww", "Xx", "Yy", "Zz",
]  # fmt: skip
CHARACTERS = [(c, k) for k, cs in enumerate(CLASSES) for c in cs]

# Families whose letters are not letters.
EXCLUDE = re.compile(r"symbol|keyboard|dingbat|emoji|music|math|signwriting|d050000l|ornament", re.I)
# Families drawn by hand or after handwriting; they are drawn more often.
HANDWRITING = re.compile(
    r"comic.?neue|humor|breip|ecolier|dkg|fifthhorseman|bwht|dancing|kaushan|kristi|klee|kiloji|mouhitsu|kouzan|aoyagi|soseki"
    r"|rufscript|seto|sjfonts|delphine|steve|purisa|yusei|nanum.?(pen|brush)|joscelyn|leckerli|wenkai|andika|chancery|z003|chorus|routed|osifont|stick|rocknroll",
    re.I,
)


def packages():
    """The Debian packages that hold the fonts, one name a line in fonts.txt."""
    with open(os.path.join(HERE, "fonts.txt")) as f:
        return [line.strip() for line in f if line.strip() and not line.startswith("#")]


def font_files():
    """Every TrueType or OpenType file of those packages, sorted; a missing package is an error."""
    listed = subprocess.run(["dpkg", "-L", *packages()], check=True, capture_output=True, text=True).stdout
    return sorted({p for p in listed.splitlines() if p.lower().endswith((".ttf", ".otf", ".ttc"))})


def family_of(font):
    """The typographic family's name, or the plain one where that is missing."""
    names = font["name"]
    return str(names.getDebugName(16) or names.getDebugName(1) or "").strip()


def held_out(family):
    """Whether a family is kept for evaluation.

    The first word of its name decides, so that sisters ("PT Sans", "PT Mono") stay together and adding fonts moves none.
    """
    word = re.split(r"[\s_-]", family.lower())[0]
    return int(hashlib.sha256(word.encode()).hexdigest(), 16) % HELD_OUT_OF == 0


def select():
    """[(path, family)] of the fonts that hold every character, at most FILES_PER_FAMILY of a family."""
    chosen, seen = [], {}
    for path in font_files():
        try:
            font = TTFont(path, fontNumber=0, lazy=True)
            cmap, family = font.getBestCmap() or {}, family_of(font)
        except Exception as e:  # a file that fontTools cannot read is no loss, but say so
            print(f"skipped {path}: {e}")
            continue
        if not family or EXCLUDE.search(os.path.basename(path)) or EXCLUDE.search(family):
            continue
        if not all(ord(c) in cmap for c, _ in CHARACTERS):
            continue
        key = family.lower()
        if seen.get(key, 0) < FILES_PER_FAMILY:
            seen[key] = seen.get(key, 0) + 1
            chosen.append((path, family))
    return chosen


def mask(font, char):
    """The glyph as a bool image, its longer side BOX pixels, centred in SIZE x SIZE; None where it has no ink."""
    x0, y0, x1, y1 = font.getbbox(char)
    w, h = x1 - x0, y1 - y0
    if w <= 0 or h <= 0:
        return None
    big = Image.new("L", (w, h))
    ImageDraw.Draw(big).text((-x0, -y0), char, fill=255, font=font)
    box = big.getbbox()
    if box is None:
        return None
    big = big.crop(box)
    s = BOX / max(big.size)
    small = big.resize((max(1, round(big.width * s)), max(1, round(big.height * s))), Image.BOX if s < 1 else Image.BILINEAR)
    out = np.zeros((SIZE, SIZE), bool)
    y, x = (SIZE - small.height) // 2, (SIZE - small.width) // 2
    out[y : y + small.height, x : x + small.width] = np.asarray(small) > 110
    return out if out.sum() >= 20 else None


def unicase(masks):
    """Whether a font draws capitals for small letters; its letters would be labelled wrongly."""
    overlap = [(masks[c] & masks[c.upper()]).sum() / (masks[c] | masks[c.upper()]).sum() for c in "aegr"]
    return sum(o > 0.8 for o in overlap) >= 2


def thin(m):
    """Centre lines of a stack of masks [n, h, w], after Zhang and Suen (1984), all images at once."""
    m = m.astype(np.uint8).copy()
    m[:, [0, -1]] = 0
    m[:, :, [0, -1]] = 0
    while True:
        removed = 0
        for step in (0, 1):
            p = np.pad(m, ((0, 0), (1, 1), (1, 1)))
            n = [p[:, 0:-2, 1:-1], p[:, 0:-2, 2:], p[:, 1:-1, 2:], p[:, 2:, 2:],
                 p[:, 2:, 1:-1], p[:, 2:, 0:-2], p[:, 1:-1, 0:-2], p[:, 0:-2, 0:-2]]  # fmt: skip
            neighbours = sum(n)
            rises = sum((n[i] < n[(i + 1) % 8]).astype(np.uint8) for i in range(8))
            north, east, south, west = n[0], n[2], n[4], n[6]
            if step == 0:
                sides = (north * east * south == 0) & (east * south * west == 0)
            else:
                sides = (north * east * west == 0) & (north * south * west == 0)
            drop = (m == 1) & (neighbours >= 2) & (neighbours <= 6) & (rises == 1) & sides
            m[drop] = 0
            removed += int(drop.sum())
        if removed == 0:
            return m.astype(bool)


def fields(masks):
    """(outline int8, skeleton uint8), each [n, SIZE, SIZE], in steps of 1/UNIT pixel, saturating."""
    outline = np.empty(masks.shape, np.int8)
    skeleton = np.empty(masks.shape, np.uint8)
    for start in range(0, len(masks), 1024):
        part = masks[start : start + 1024]
        for i, (m, s) in enumerate(zip(part, thin(part)), start):
            signed = distance_transform_edt(~m) - distance_transform_edt(m)
            outline[i] = np.clip(np.round(signed * UNIT), -127, 127)
            skeleton[i] = np.clip(np.round(distance_transform_edt(~(s if s.any() else m)) * UNIT), 0, 255)
    return outline, skeleton


def build():
    """Every glyph of every chosen font: outline, skeleton, class, font index; and the list of fonts."""
    masks, labels, owner, fonts = [], [], [], []
    seen = set()
    for path, family in select():
        try:
            font = ImageFont.truetype(path, 96)
            drawn = [(mask(font, c), k) for c, k in CHARACTERS]
        except Exception as e:
            print(f"skipped {path}: {e}")
            continue
        if any(m is None for m, _ in drawn) or unicase({c: m for (c, _), (m, _) in zip(CHARACTERS, drawn)}):
            continue
        digest = hashlib.sha256(b"".join(np.packbits(m).tobytes() for m, _ in drawn)).digest()
        if digest in seen:  # the same outlines under another name
            continue
        seen.add(digest)
        for m, k in drawn:
            masks.append(m)
            labels.append(k)
            owner.append(len(fonts))
        fonts.append((path, family))
    outline, skeleton = fields(np.stack(masks))
    return {
        "outline": outline,
        "skeleton": skeleton,
        "label": np.array(labels, np.int64),
        "font": np.array(owner, np.int64),
        "path": np.array([p for p, _ in fonts]),
        "family": np.array([f for _, f in fonts]),
        "held_out": np.array([held_out(f) for _, f in fonts]),
        "handwriting": np.array([bool(HANDWRITING.search(f) or HANDWRITING.search(os.path.basename(p))) for p, f in fonts]),
    }


def load(cache):
    """`build()`, kept in the .npz file `cache`."""
    if not os.path.exists(cache):
        built = build()
        os.makedirs(os.path.dirname(os.path.abspath(cache)), exist_ok=True)
        np.savez_compressed(cache, **built)
    with np.load(cache) as z:
        return {k: z[k] for k in z.files}
