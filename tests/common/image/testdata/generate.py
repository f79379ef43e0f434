#!/usr/bin/env python3
"""Makes the pictures of this directory and pillow.txt, what Pillow reads from them. Needs Pillow 13 and numpy.

pillow.txt, one line a fact, the digests are SHA-256 of raw bytes:
  decode FILE MODE WIDTH HEIGHT RGB-DIGEST L-DIGEST      Image.open(FILE).convert("RGB") and .convert("L")
  resize FILE CONVERTED FILTER WIDTH HEIGHT DIGEST       .convert(CONVERTED).resize((WIDTH, HEIGHT), FILTER)
  crop   FILE CONVERTED RESOLUTION DIGEST                the published code's center_crop_arr
  exif   FILE ORIENTATION RGB-DIGEST                     ImageOps.exif_transpose(Image.open(FILE)).convert("RGB")
"""
import hashlib
import io
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

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


def webp(array, mode, **options):
    out = io.BytesIO()
    Image.fromarray(array, mode=mode).save(out, "WEBP", **options)
    return out.getvalue()


def small_frame(animation):
    """The first frame shrunk to a part of the canvas, at (4, 2): header fields of its ANMF chunk and a picture of 12 x 9."""
    at = animation.index(b"ANMF")
    size = struct.unpack("<I", animation[at + 4:at + 8])[0]
    picture_chunk = webp(picture(3, 12, 9), "RGB", lossless=True)[12:]
    u24 = lambda v: struct.pack("<I", v)[:3]
    frame = u24(2) + u24(1) + u24(11) + u24(8) + animation[at + 20:at + 24] + picture_chunk
    body = animation[8:at] + b"ANMF" + struct.pack("<I", len(frame)) + frame + animation[at + 8 + size + size % 2:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def lzw(indices, bits):
    """GIF's compressed blocks, without compression: a clear code before the code size would grow."""
    codes, clear = [], 1 << bits
    for i, index in enumerate(indices):
        if i % (clear - 2) == 0:
            codes.append(clear)
        codes.append(int(index))
    codes.append(clear + 1)
    total = sum(code << (n * (bits + 1)) for n, code in enumerate(codes))
    raw = total.to_bytes((len(codes) * (bits + 1) + 7) // 8, "little")
    blocks = b"".join(bytes([len(raw[i:i + 255])]) + raw[i:i + 255] for i in range(0, len(raw), 255))
    return bytes([bits]) + blocks + b"\0"


def gif(indices, screen, left=0, top=0, palette=b"", local=b"", interlaced=False, transparent=None, bits=4, more=b""):
    """Palettes are the bytes of a power of two of colours."""
    def size_bits(colours):
        return 0x80 | (len(colours) // 3).bit_length() - 2 if colours else 0
    height, width = indices.shape
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, size_bits(palette), 0, 0) + palette
    if transparent is not None:
        out += b"!\xf9\4" + struct.pack("<BHB", 1, 10, transparent) + b"\0"
    out += b"," + struct.pack("<HHHHB", left, top, width, height, size_bits(local) | (0x40 if interlaced else 0)) + local
    if interlaced:
        indices = np.concatenate([indices[a::b] for a, b in ((0, 8), (4, 8), (2, 4), (1, 2))])
    return out + lzw(indices.reshape(-1), bits) + more + b";"


def with_exif(save, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(exif=exif.tobytes(), **options)


def new_files():
    """Of their own generator: the pictures above stay what they were."""
    rng = np.random.default_rng(20260101)
    rgb, rgba = picture(3), picture(4)
    rgba[5:9, 3:20, 3] = 0
    yield "lossy.webp", webp(rgb, "RGB", quality=80)
    yield "lossy_low.webp", webp(picture(3, 61, 47), "RGB", quality=5)
    yield "lossy_large.webp", webp(picture(3, 128, 97), "RGB", quality=92)
    yield "lossy_alpha.webp", webp(rgba, "RGBA", quality=85)
    yield "lossless.webp", webp(rgb, "RGB", lossless=True)
    yield "lossless_alpha.webp", webp(rgba, "RGBA", lossless=True, exact=True)
    for name, options in (("lossless", {"lossless": True}), ("lossy", {"quality": 75})):
        out = io.BytesIO()
        frames = [Image.fromarray(picture(4), mode="RGBA") for _ in range(3)]
        frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], duration=40, background=(200, 10, 10, 255), **options)
        yield f"animated_{name}.webp", out.getvalue()
        if name == "lossless":
            yield "animated_small_frame.webp", small_frame(out.getvalue())
    colours = rng.integers(0, 256, 48, dtype=np.uint8).tobytes()
    others = rng.integers(0, 256, 48, dtype=np.uint8).tobytes()
    ramp = bytes(v for i in range(16) for v in (i, i, i))
    indices = rng.integers(0, 16, (H, W))
    yield "plain.gif", gif(indices, (W, H), palette=colours)
    yield "interlaced.gif", gif(indices, (W, H), palette=colours, interlaced=True)
    yield "local_palette.gif", gif(indices, (W, H), palette=colours, local=others)
    yield "transparent.gif", gif(indices, (W, H), palette=colours, transparent=5)
    yield "inside.gif", gif(indices[:9, :11], (W, H), 7, 3, palette=colours)
    yield "inside_transparent.gif", gif(indices[:9, :11], (W, H), 7, 3, palette=colours, transparent=5)
    yield "outside.gif", gif(indices, (20, 10), 4, 6, palette=colours)
    yield "grey_ramp.gif", gif(indices, (W, H), palette=ramp)
    yield "no_palette.gif", gif(indices, (W, H))
    yield "short_palette.gif", gif(indices, (W, H), palette=colours[:24])
    yield "animated.gif", gif(indices, (W, H), palette=colours, more=gif(15 - indices, (W, H), palette=others)[13 + 48:-1])
    out = io.BytesIO()
    Image.fromarray(picture(3, 61, 47), mode="RGB").quantize(200).save(out, "GIF")
    yield "saved.gif", out.getvalue()
    for orientation in range(1, 9):
        yield f"exif{orientation}.jpg", with_exif(lambda **o: jpeg(rgb, "RGB", quality=85, **o), orientation)
    tiff = Image.Exif()
    tiff[0x0112] = 6
    yield "exif6.png", png(rgb, 8, 2, chunk(b"eXIf", tiff.tobytes()[6:]))
    yield "exif8.webp", with_exif(lambda **o: webp(rgb, "RGB", lossless=True, **o), 8)
    yield "xmp3.webp", webp(rgb, "RGB", lossless=True, xmp=b'<x:xmpmeta><rdf tiff:Orientation="3"/></x:xmpmeta>')
    yield "exif_wrong.jpg", with_exif(lambda **o: jpeg(rgb, "RGB", quality=85, **o), 9)


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
    for name, data in [*files(), *new_files()]:
        with open(os.path.join(HERE, name), "wb") as out:
            out.write(data)
        image = Image.open(io.BytesIO(data))
        facts.append(f"decode {name} {image.mode} {image.width} {image.height} {digest(image.convert('RGB'))} {digest(image.convert('L'))}")
        if "exif" in name or "xmp" in name:
            upright = ImageOps.exif_transpose(image)
            facts.append(f"exif {name} {image.getexif().get(0x0112, 1)} {digest(upright.convert('RGB'))}")
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
