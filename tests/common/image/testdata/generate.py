#!/usr/bin/env python3
"""Makes the pictures of this directory and pillow.txt, what Pillow reads from them. Needs Pillow 13 and numpy.

pillow.txt, one line a fact, the digests are SHA-256 of raw bytes:
  decode FILE MODE WIDTH HEIGHT RGB-DIGEST L-DIGEST      Image.open(FILE).convert("RGB") and .convert("L")
  resize FILE CONVERTED FILTER WIDTH HEIGHT DIGEST       .convert(CONVERTED).resize((WIDTH, HEIGHT), FILTER)
  crop   FILE CONVERTED RESOLUTION DIGEST                the published code's center_crop_arr
"""
import hashlib
import io
import os
import struct
import zlib

import numpy as np
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
RNG = np.random.default_rng(20220400)
W, H = 29, 23


def picture(channels, width=W, height=H):
    """Smooth colours with some noise: small as a JPEG, and rounding shows."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 100 * np.sin(x / (5 + c) + c) * np.cos(y / (7 - c) + 2 * c) for c in range(channels)]
    noisy = np.stack(planes, -1) + RNG.normal(0, 12, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8).squeeze()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack_rows(samples, depth):
    """(h, w, channels) of unsigned samples -> unfiltered PNG rows."""
    rows = b""
    for row in samples.reshape(samples.shape[0], -1):
        if depth == 16:
            data = row.astype(">u2").tobytes()
        elif depth == 8:
            data = row.astype(np.uint8).tobytes()
        else:
            bits = ((row[:, None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8).reshape(-1)
            data = np.packbits(bits).tobytes()
        rows += b"\0" + data
    return rows


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, depth, colour_type, extra=b"", interlaced=False):
    samples = samples.reshape(samples.shape[0], samples.shape[1], -1).astype(np.int64)
    if interlaced:
        passes = [samples[y0::dy, x0::dx] for x0, y0, dx, dy in ADAM7]
        raw = b"".join(pack_rows(p, depth) for p in passes if p.size)
    else:
        raw = pack_rows(samples, depth)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour_type, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def jpeg(array, mode, **options):
    out = io.BytesIO()
    Image.fromarray(array, mode=mode).save(out, "JPEG", **options)
    return out.getvalue()


def without_adobe(data):
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2:at + 4])[0]:]


def files():
    rgb, grey, cmyk = picture(3), picture(1), picture(4)
    for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
        yield f"rgb_{name}.jpg", jpeg(rgb, "RGB", quality=85, subsampling=subsampling)
    yield "rgb_progressive.jpg", jpeg(rgb, "RGB", quality=80, progressive=True)
    yield "rgb_restart.jpg", jpeg(rgb, "RGB", quality=80, restart_marker_blocks=1)
    yield "rgb_stored.jpg", jpeg(rgb, "RGB", quality=90, keep_rgb=True)
    yield "rgb_low_quality.jpg", jpeg(picture(3, 61, 47), "RGB", quality=10)
    yield "grey.jpg", jpeg(grey, "L", quality=85)
    yield "grey_progressive.jpg", jpeg(grey, "L", quality=60, progressive=True)
    stored = jpeg(cmyk, "CMYK", quality=90)
    yield "cmyk.jpg", stored
    adobe = stored.index(b"Adobe")
    yield "ycck.jpg", stored[:adobe + 11] + b"\2" + stored[adobe + 12:]  # The transform byte says how components are read.
    yield "cmyk_no_adobe.jpg", without_adobe(stored)

    for depth in (1, 2, 4, 8):
        yield f"grey{depth}.png", png(grey >> (8 - depth), depth, 0)
    wide = RNG.integers(0, 65536, (H, W))
    wide[0, :12] = [0, 1, 127, 128, 254, 255, 256, 257, 511, 512, 65280, 65535]
    wide[1] = RNG.integers(0, 300, W)
    yield "grey16.png", png(wide, 16, 0)
    yield "grey8_trns.png", png(grey, 8, 0, chunk(b"tRNS", struct.pack(">H", int(grey[3, 3]))))
    yield "grey_alpha8.png", png(np.dstack([grey, picture(1)]), 8, 4)
    yield "grey_alpha16.png", png(RNG.integers(0, 65536, (H, W, 2)), 16, 4)
    yield "rgb8.png", png(rgb, 8, 2)
    yield "rgb8_gamma.png", png(rgb, 8, 2, chunk(b"gAMA", struct.pack(">I", 100000)))
    yield "rgb8_trns.png", png(rgb, 8, 2, chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[2, 2]))))
    yield "rgb16.png", png(RNG.integers(0, 65536, (H, W, 3)), 16, 2)
    yield "rgba8.png", png(picture(4), 8, 6)
    yield "rgba16.png", png(RNG.integers(0, 65536, (H, W, 4)), 16, 6)
    for depth in (1, 2, 4, 8):
        size = 1 << depth
        palette = chunk(b"PLTE", RNG.integers(0, 256, 3 * size, dtype=np.uint8).tobytes())
        yield f"palette{depth}.png", png(RNG.integers(0, size, (H, W)), depth, 3, palette)
    palette = chunk(b"PLTE", RNG.integers(0, 256, 48, dtype=np.uint8).tobytes())
    yield "palette8_trns.png", png(RNG.integers(0, 16, (H, W)), 8, 3, palette + chunk(b"tRNS", bytes(range(0, 160, 10))))
    yield "palette8_short.png", png(RNG.integers(0, 20, (H, W)), 8, 3, palette)
    yield "rgb8_interlaced.png", png(rgb, 8, 2, interlaced=True)
    yield "grey1_interlaced.png", png(grey >> 7, 1, 0, interlaced=True)
    yield "rgba16_interlaced.png", png(RNG.integers(0, 65536, (H, W, 4)), 16, 6, interlaced=True)
    yield "palette4_interlaced.png", png(RNG.integers(0, 16, (3, 2)), 4, 3, palette, interlaced=True)
    yield "rgb8_tall.png", png(picture(3, 13, 47), 8, 2)
    yield "one_pixel.png", png(rgb[:1, :1], 8, 2)


def digest(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


def center_crop(image, resolution):
    while min(*image.size) >= 2 * resolution:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.BOX)
    scale = resolution / min(*image.size)
    image = image.resize(tuple(round(x * scale) for x in image.size), resample=Image.BICUBIC)
    left, top = (image.size[0] - resolution) // 2, (image.size[1] - resolution) // 2
    return image.crop((left, top, left + resolution, top + resolution))


def main():
    facts = []
    for name, data in files():
        with open(os.path.join(HERE, name), "wb") as out:
            out.write(data)
        image = Image.open(io.BytesIO(data))
        facts.append(f"decode {name} {image.mode} {image.width} {image.height} {digest(image.convert('RGB'))} {digest(image.convert('L'))}")
    for name in ("rgb8.png", "grey8.png", "rgb_low_quality.jpg", "palette8.png", "rgb8_tall.png"):
        image = Image.open(os.path.join(HERE, name))
        for mode in ("RGB", "L"):
            converted = image.convert(mode)
            for size in ((W, H), (14, 11), (7, 23), (29, 5), (1, 1), (64, 64), (100, 3), (28, 22), (31, 47), (27, 18), (27, 19)):
                for filter_name in ("BOX", "BICUBIC"):
                    resized = converted.resize(size, resample=Image.Resampling[filter_name])
                    facts.append(f"resize {name} {mode} {filter_name} {size[0]} {size[1]} {digest(resized)}")
            for resolution in (1, 2, 3, 5, 7, 11, 12, 16, 23, 24, 32, 64):
                facts.append(f"crop {name} {mode} {resolution} {digest(center_crop(converted, resolution))}")
    with open(os.path.join(HERE, "pillow.txt"), "w") as out:
        out.write("\n".join(facts) + "\n")


if __name__ == "__main__":
    main()
