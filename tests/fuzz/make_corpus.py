#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets, tests/fuzz/corpus/TARGET/, a few kB each. Run it by .venv/bin/python (it has torch).

The decoders' seeds are not here: scripts/fuzz takes the images of tests/common/image/testdata.
"""
import collections
import gzip
import io
import json
import pathlib
import struct
import tarfile
import zipfile

import torch

root = pathlib.Path(__file__).resolve().parent
source = root.parent.parent


def write(target: str, name: str, data: bytes | str) -> None:
    path = root / "corpus" / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


torch.manual_seed(0)
layer = torch.nn.Linear(2, 3)
optimizer = torch.optim.AdamW(layer.parameters())
layer(torch.ones(1, 2)).sum().backward()
optimizer.step()
base = torch.arange(12, dtype=torch.float32)
for name, value in {
    "state_dict": layer.state_dict(),
    "parameters": dict(layer.named_parameters()),
    "optimizer": optimizer.state_dict(),
    "views": {"t": base.view(3, 4).t(), "slice": base[2:9:3], "same": base, "empty": torch.zeros(0, 3), "scalar": base[5]},
    "types": {str(t): torch.ones(3).to(t) for t in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
                                                     torch.int16, torch.int8, torch.uint8, torch.bool)},
    "plain": collections.OrderedDict(a=[1, -70000, 2**40, 1.5, None, True, ("x", torch.Size([3, 4]))]),
}.items():
    data = saved(value)
    write("pt", f"{name}.pt", data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        pickle = next(entry for entry in archive.namelist() if entry.endswith("/data.pkl"))
        write("pickle", name, archive.read(pickle))


def safetensors(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


write("safetensors", "two", safetensors({"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 3],
      "data_offsets": [0, 24]}, "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]}}, bytes(26)))
write("safetensors", "none", safetensors({}, b""))
write("safetensors", "hole", safetensors({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"ab"))
write("safetensors", "huge", safetensors({"a": {"dtype": "F64", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}, bytes(8)))
write("safetensors", "long_header", struct.pack("<Q", 2**63) + b"{}")

digest = "0123456789abcdef" * 4
manifest = {"format": "p2-checkpoint", "version": 1, "images_seen": 12800, "epoch": 3, "attempt": 2,
            "ema_profiles": ["0.9999"], "files": [{"path": "model.safetensors", "size_bytes": 100, "sha256": digest}]}
write("checkpoint_manifest", "one", json.dumps(manifest, indent=2))
write("checkpoint_manifest", "newer", json.dumps({**manifest, "version": 2}))
write("checkpoint_manifest", "real_numbers", json.dumps({**manifest, "images_seen": 1e300, "attempt": -1.5}))
write("checkpoint_manifest", "outside", json.dumps({**manifest, "files": [{"path": "../x", "size_bytes": -1, "sha256": ""}]}))
write("checkpoint_manifest", "state", json.dumps({"format": "p2-train-state", "images_seen": 80, "step": 10, "updates": 9,
      "ema_updates": 9, "seed": 2**64 - 1, "batch": 8, "skipped_ranges": [[8, 16]], "fingerprint": {"torch": "2.11.0"},
      "dataset_fingerprint": digest, "metric_sums": [1.5, 0]}))
write("checkpoint_manifest", "directory", "000000012800-e3")

dataset = {"format": "p2-dataset", "version": 2, "name": "a", "resolution": 8, "channels": 3, "count": 3, "fingerprint": digest,
           "shards": [{"file": "shard-00000.p2s", "count": 2, "bytes": 460, "sha256": digest},
                      {"file": "shard-00001.p2s", "count": 1, "bytes": 264, "sha256": digest}],
           "bad_count": 1, "bad_images": [{"path": "x.png", "reason": "cut short"}], "created_by": "p2ctl"}
write("dataset_manifest", "two_shards", json.dumps(dataset))
write("dataset_manifest", "overflow", json.dumps({**dataset, "version": 1, "resolution": 4096, "channels": 1, "count": 2**40, "shards": [
      {"file": "shard-00000.p2s", "count": 2**40, "bytes": 64, "sha256": digest}]}))

write("shard_header", "rgb", b"P2SHARD\n" + struct.pack("<6IQQQ", 2, 64, 3, 8, 8, 0, 2, 192, 0) + bytes(8))
write("shard_header", "grey", b"P2SHARD\n" + struct.pack("<6IQQQ", 1, 64, 1, 4096, 4096, 0, 2**40, 2**24, 7) + bytes(8))

gif = b"GIF89a\x01\x00\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
for method, name in ((zipfile.ZIP_STORED, "stored.zip"), (zipfile.ZIP_DEFLATED, "deflated.zip")):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for path in ("b/1.gif", "a/2.gif", "labels.json"):
            archive.writestr(zipfile.ZipInfo(path), gif * 4)
    write("image_source", name, buffer.getvalue())
for form, name in ((tarfile.USTAR_FORMAT, "ustar.tar"), (tarfile.PAX_FORMAT, "pax.tar"), (tarfile.GNU_FORMAT, "gnu.tar")):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for path in ("./0001.gif", "0001.cls", "d" * 110 + "/é.gif" if form != tarfile.USTAR_FORMAT else "0002.gif"):
            info = tarfile.TarInfo(path)
            info.size = len(gif)
            archive.addfile(info, io.BytesIO(gif))
    data = buffer.getvalue().rstrip(b"\0")
    data += bytes(-len(data) % 512 + 1024)
    write("image_source", name, data)
    if form == tarfile.PAX_FORMAT:
        write("image_source", "pax.tar.gz", gzip.compress(data, mtime=0))


def lmdb(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Two meta pages and one leaf, as liblmdb 0.9 lays them out with pages of 512 bytes."""
    page = 512

    def database(pad: int, depth: int, leaves: int, count: int, top: int) -> bytes:
        return struct.pack("<IHH5Q", pad, 0, depth, 0, leaves, 0, count, top)

    def meta(number: int) -> bytes:
        free = database(page, 0, 0, 0, 2**64 - 1)
        main = database(0, 1, 1, len(entries), 2) if number else database(0, 0, 0, 0, 2**64 - 1)
        body = struct.pack("<IIQQ", 0xBEEFC0DE, 1, 0, 1 << 20) + free + main + struct.pack("<QQ", 2, number)
        return (struct.pack("<QHHHH", number, 0, 8, 0, 0) + body).ljust(page, b"\0")

    nodes, offsets, upper = b"", [], page
    for key, value in sorted(entries):
        node = struct.pack("<HHHH", len(value) & 0xFFFF, len(value) >> 16, 0, len(key)) + key + value
        node += b"\0" * (len(node) % 2)
        nodes, upper = node + nodes, upper - len(node)
        offsets.append(upper)
    leaf = struct.pack("<QHHHH", 2, 0, 2, 16 + 2 * len(offsets), upper) + struct.pack(f"<{len(offsets)}H", *offsets)
    return meta(0) + meta(1) + leaf.ljust(upper, b"\0") + nodes


write("image_source", "two.mdb", lmdb([(b"32-00000", gif), (b"64-00000", gif)]))

for preset in ("base", "ffhq-gamma0.5"):
    write("yaml", preset + ".yaml", (source / "configs" / "presets" / (preset + ".yaml")).read_bytes())
write("yaml", "null", "training: {batch: null, images: 10M}\nema: [{rate: 0.999}]\nextends: base\n")
write("yaml", "alias", "a: &a [1, 2]\nmodel: {attention_resolutions: 16,8, channel_mult: *a}\n")
write("yaml", "assignment", "ema.0.rate=0.99")
write("yaml", "list_assignment", "ema=[{rate: 0.99}, {half_life_images: 500k}]")
write("yaml", "labels", "deadlines: {start: 90s, stop: 2h}\ntraining:\n  reduction: exact\n")

for number, text in enumerate(("1 / pow(k + snr, gamma)", "min(snr, 5) / snr", "max(1, snr) * exp(-t / T) - sqrt(abar) + log(lambda)",
                               "-(-(((beta)))) * .5e-3", "pow(0, -1) - 1/0")):
    write("weight_expression", str(number), text)
