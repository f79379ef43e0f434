#!/usr/bin/env python3
"""The order of worker/data/sample_order.h again, in Python: prints the known answers of sample_order_test.cc."""
MASK = 0xFFFFFFFF


def fnv1a(name):
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 & MASK
    return value


def philox(counter, key):
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k0, p1 & MASK, p0 >> 32 ^ c[3] ^ k1, p0 & MASK]
        k0, k1 = k0 + 0x9E3779B9 & MASK, k1 + 0xBB67AE85 & MASK
    return c


def image_of(seed, count, g):
    epoch, x = divmod(g, count)
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = x >> half, x & mask
        for r in range(8):
            words = philox((right + (r // 4 << 31), epoch & MASK, epoch >> 32, fnv1a("order")), (seed & MASK, seed >> 32))
            left, right = right, left ^ words[r % 4] & mask
        x = left << half | right
        if x < count:
            return x


def epoch(seed, count, e):
    return [image_of(seed, count, e * count + i) for i in range(count)]


if __name__ == "__main__":
    assert philox((0, 0, 0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]  # Random123's vector.
    print("seed 0, 10 images, epoch 0:", epoch(0, 10, 0))
    print("seed 0, 10 images, epoch 1:", epoch(0, 10, 1))
    print("seed 0x0123456789abcdef, 7 images, epoch 2^33:", epoch(0x0123456789ABCDEF, 7, 1 << 33))
    print("seed 42, 2^33 images, sample 12345:", image_of(42, 1 << 33, 12345))
    print("seed 1, 5000 images, samples 4999 and 5000:", image_of(1, 5000, 4999), image_of(1, 5000, 5000))
