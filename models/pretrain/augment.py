"""Glyph fields in, 8 x 8 images out: what a careless hand, a scanner and the digits' own preprocessing would have made.

The handwritten digits that the model is tuned on later went through NIST's form software (Garris et al., NISTIR 5469)
and then through a 4 x 4 block count, 0 to 16 a cell (Alpaydin and Kaynak). After a random warp the glyphs are treated
alike here: slant removed by a shear, box scaled to 20 x 32, strokes thickened or thinned to a share of ink, blocks
counted. This imitates the result, as seen in the digits; it is not NIST's program.
"""

import math

import torch
import torch.nn.functional as F

from glyphs import UNIT

WORK = 40  # side of the warped field, pixels
OUT = 32  # side of the binary image, pixels
INK = 0.305  # share of the 32 x 32 image that is ink: measured on the digits, as are its deviation and the box


def uniform(gen, n, low, high):
    return torch.rand(n, generator=gen) * (high - low) + low


def warp(field, gen, strength):
    """[b, 1, h, w] through a random affine and elastic map, to [b, 1, WORK, WORK]."""
    b = len(field)
    turn = torch.randn(b, generator=gen) * math.radians(9) * strength
    shear = torch.randn(b, generator=gen) * 0.25 * strength
    sx, sy = (torch.exp(torch.randn(b, generator=gen) * 0.12 * strength) for _ in range(2))
    cos, sin = torch.cos(turn), torch.sin(turn)
    theta = torch.stack([
        torch.stack([cos * sx, sin + shear, torch.zeros(b)], 1),
        torch.stack([-sin, cos * sy, torch.zeros(b)], 1),
    ], 1) * 0.95  # fmt: skip
    grid = F.affine_grid(theta, (b, 1, WORK, WORK), align_corners=False)
    for cells, size in ((3, 0.13), (5, 0.07)):
        bend = torch.randn((b, 2, cells, cells), generator=gen) * size * strength
        bend = F.interpolate(bend, size=(WORK, WORK), mode="bicubic", align_corners=True)
        grid = grid + bend.permute(0, 2, 3, 1)
    return F.grid_sample(field, grid, mode="bilinear", padding_mode="border", align_corners=False)


def normalize(field, ink, gen, deslant):
    """The box of the ink (bool, same shape) scaled to 20 x 32 inside 32 x 32, after removing the slant on `deslant` [b].

    Narrow glyphs stay narrow now and then, as a handwritten 1 does.
    """
    b, n = len(field), field.shape[-1]
    at = torch.arange(n, dtype=torch.float32)
    ink = ink[:, 0]
    rows = ink.any(2)
    top = rows.float().argmax(1)
    bottom = n - 1 - rows.flip(1).float().argmax(1)
    left = torch.where(ink, at, torch.tensor(float(n))).amin(2)  # [b, n], first inked column of each row
    index = torch.arange(b)
    # The slant is the line from the first ink of the top row to the first ink of the bottom row.
    rise = (bottom - top).clamp(min=1).float()
    slope = ((left[index, bottom] - left[index, top]) / rise).clamp(-0.6, 0.6) * deslant
    x = at[None, None] - slope[:, None, None] * (at[None, :, None] - top[:, None, None])
    x0 = torch.where(ink, x, torch.tensor(1e9)).amin((1, 2)) - 0.5
    x1 = torch.where(ink, x, torch.tensor(-1e9)).amax((1, 2)) + 0.5
    y0, y1 = top - 0.5, bottom + 0.5
    width, height = x1 - x0, y1 - y0
    natural = OUT * width / height
    keep = (natural < 13) & (torch.rand(b, generator=gen) < 0.7)
    out_w = torch.where(keep, natural * uniform(gen, b, 0.9, 1.6), 20 * uniform(gen, b, 0.85, 1.1)).clamp(3, 24)
    shift = uniform(gen, b, -1.5, 1.5)
    u = torch.arange(OUT, dtype=torch.float32) + 0.5
    yy = (u / OUT)[None] * height[:, None] + y0[:, None]
    xx = (u[None] - OUT / 2 - shift[:, None]) / out_w[:, None] * width[:, None] + (x0 + x1)[:, None] / 2
    xx = xx[:, None, :] + slope[:, None, None] * (yy - top[:, None])[:, :, None]
    yy = yy[:, :, None].expand(-1, -1, OUT)
    grid = torch.stack([(2 * xx + 1) / n - 1, (2 * yy + 1) / n - 1], 3)
    return F.grid_sample(field, grid, mode="bilinear", padding_mode="border", align_corners=False)


def render(outline, skeleton, gen, strength=1.0):
    """Fields int8 and uint8 [b, 64, 64] to images [b, 1, 8, 8] of 0 to 16 (float, whole numbers).

    `strength` scales the warp and the noise; 0 is the plain glyph in the digits' format.
    """
    b = len(outline)
    pen = torch.rand(b, generator=gen) < 0.6
    field = torch.where(pen[:, None, None], skeleton.float() - 5.0, outline.float())[:, None] / UNIT
    field = warp(field, gen, strength)
    ink = field < 0
    lost = ink.sum((1, 2, 3)) < 12
    ink[lost] = field[lost] < field[lost].amin((1, 2, 3), keepdim=True) + 2
    field = normalize(field, ink, gen, (torch.rand(b, generator=gen) < 0.6).float())
    rough = F.interpolate(torch.randn((b, 1, 11, 11), generator=gen), size=(OUT, OUT), mode="bilinear", align_corners=True)
    field = field + rough * uniform(gen, b, 0.0, 0.9 * strength)[:, None, None, None]
    field = field + torch.randn(field.shape, generator=gen) * uniform(gen, b, 0.0, 0.6 * strength)[:, None, None, None]
    # Strokes thickened or thinned until the wanted share is ink: a quantile of the distances is exactly that.
    share = (INK + torch.randn(b, generator=gen) * 0.03).clamp(0.2, 0.42)
    flat, _ = field.flatten(1).sort(1)
    limit = flat[torch.arange(b), (share * OUT * OUT).long()]
    binary = (field < limit[:, None, None, None]).float()
    return F.avg_pool2d(binary, 4) * 16
