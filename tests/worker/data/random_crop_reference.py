#!/usr/bin/env python3
"""random_crop_arr of the published code (guided-diffusion, image_datasets.py) with Pillow, its three random.randrange
answered by the map of worker/data/random_crop.h: prints the known answers of random_crop_test.cc."""
import hashlib
import math

import numpy as np
from PIL import Image
from sample_order_reference import MASK, fnv1a, philox


def draws(seed, g):
    words = philox((0, g & MASK, g >> 32, fnv1a("crop")), (seed & MASK, seed >> 32))
    return iter(words)


def random_crop_arr(pil_image, image_size, randrange, min_crop_frac=0.8, max_crop_frac=1.0):
    min_smaller_dim_size = math.ceil(image_size / max_crop_frac)
    max_smaller_dim_size = math.ceil(image_size / min_crop_frac)
    smaller_dim_size = randrange(min_smaller_dim_size, max_smaller_dim_size + 1)
    while min(*pil_image.size) >= 2 * smaller_dim_size:
        pil_image = pil_image.resize(tuple(x // 2 for x in pil_image.size), resample=Image.BOX)
    scale = smaller_dim_size / min(*pil_image.size)
    pil_image = pil_image.resize(tuple(round(x * scale) for x in pil_image.size), resample=Image.BICUBIC)
    arr = np.array(pil_image)
    crop_y = randrange(0, arr.shape[0] - image_size + 1)
    crop_x = randrange(0, arr.shape[1] - image_size + 1)
    return arr[crop_y : crop_y + image_size, crop_x : crop_x + image_size], (smaller_dim_size, crop_y, crop_x)


def record(channels, resolution):
    """(C, H, W): an image with edges and smooth parts, in integers that C++ computes alike."""
    c, y, x = np.meshgrid(*(np.arange(n) for n in (channels, resolution, resolution)), indexing="ij")
    return ((x * x * 3 + y * 5 * (c + 1) + (x // 7) * (y // 5) * 40) % 256).astype(np.uint8)


def crop(seed, g, channels, resolution, size, low, high):
    words = draws(seed, g)
    hwc = record(channels, resolution).transpose(1, 2, 0)
    image = Image.fromarray(hwc[:, :, 0] if channels == 1 else hwc)
    arr, where = random_crop_arr(image, size, lambda a, b: a + (next(words) * (b - a) >> 32), low, high)
    arr = arr.reshape(size, size, channels).transpose(2, 0, 1)
    return where, hashlib.sha256(np.ascontiguousarray(arr).tobytes()).hexdigest()


if __name__ == "__main__":
    for case in [(5, 0, 3, 40, 32, 0.8, 1.0), (5, 1, 3, 40, 32, 0.8, 1.0), (5, 2, 3, 64, 32, 0.8, 1.0),
                 (5, 1 << 33, 1, 100, 32, 0.7, 0.9), (0x0123456789ABCDEF, 12345, 3, 150, 64, 0.5, 0.95)]:
        where, digest = crop(*case)
        print("{{%s}, {%d, %d, %d}, \"%s\"}," % (", ".join(str(x) for x in case), *where, digest))
