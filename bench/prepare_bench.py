#!/usr/bin/env python3
"""Images/s of `p2ctl dataset prepare` against Pillow with the same work (decode, box halves, bicubic, crop).

Makes JPEGs and PNGs, then for each kind runs in turn, several rounds: p2 with 1 and with 2 threads, Pillow the same, and
two independent prepares of one thread at once, which shows what the machine's two cores give. Prints JSON with the median rates and the
medians of the rounds' ratios, for one thread also by CPU seconds (which a busy machine disturbs less). Writing and hashing whole shards
go on beside one decoding thread, too, so the ratio of two threads to one says less than that of two cores to one. Pillow runs in as many processes as p2 has threads,
its files read and its records hashed and written in this program, as p2ctl does. Needs Pillow and numpy (.venv), and a built p2ctl.

  .venv/bin/python bench/prepare_bench.py --p2ctl build/release/bin/p2ctl
"""
import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.pool import ThreadPool

import numpy as np
import PIL
from PIL import Image

CORES = sorted(os.sched_getaffinity(0))[:2]


def make_images(folder, kind, count, width, height):
    os.makedirs(folder)
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:height, 0:width]
    for i in range(count):
        planes = [127 + 90 * np.sin(x / rng.uniform(9, 60) + c) * np.cos(y / rng.uniform(9, 60)) for c in range(3)]
        noisy = np.stack(planes, -1) + rng.normal(0, 6, (height, width, 3))
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        image.save(os.path.join(folder, f"{i:05d}.{kind}"), quality=90) if kind == "jpg" else image.save(
            os.path.join(folder, f"{i:05d}.{kind}"), compress_level=6)


def record(job):
    path, resolution = job
    image = Image.open(path).convert("RGB")
    while min(*image.size) >= 2 * resolution:
        image = image.resize(tuple(side // 2 for side in image.size), resample=Image.BOX)
    scale = resolution / min(*image.size)
    image = image.resize(tuple(round(side * scale) for side in image.size), resample=Image.BICUBIC)
    left, top = (image.size[0] - resolution) // 2, (image.size[1] - resolution) // 2
    array = np.asarray(image.crop((left, top, left + resolution, top + resolution)))
    planes = np.ascontiguousarray(array.transpose(2, 0, 1)).tobytes()
    return planes, hashlib.sha256(planes).digest()


def run_pillow(folder, out, resolution, pool):
    jobs = [(os.path.join(folder, name), resolution) for name in sorted(os.listdir(folder))]
    start, start_cpu = time.perf_counter(), time.process_time()
    whole = hashlib.sha256()
    with open(out, "wb") as shard:
        for planes, _ in pool.imap(record, jobs, chunksize=8) if pool else map(record, jobs):
            shard.write(planes)
            whole.update(planes)
        shard.flush()
        os.fsync(shard.fileno())
    digest = hashlib.sha256(open(out, "rb").read()).hexdigest()  # p2 reads its shard back, too.
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    os.remove(out)
    return len(jobs) / seconds, len(jobs) / cpu, digest


def run_p2(p2ctl, folder, root, resolution, threads, core=None):
    """Images/s and images per CPU second, from the start of the program until the dataset is there; on `core` alone, or on all."""
    dataset = os.path.join(root, "datasets", "bench")
    count = len(os.listdir(folder))
    start = time.perf_counter()
    # No server is there: what follows preparing, trying to register, is not in the time (but in the CPU seconds).
    process = subprocess.Popen([p2ctl, "--addr", "127.0.0.1:1", "dataset", "prepare", folder, "bench", "--resolution",
                                str(resolution), "--root", root, "--workers", str(threads), "-q", "--timeout", "1s"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=core is not None and (lambda: os.sched_setaffinity(0, {core})) or None)
    while not os.path.exists(dataset):
        if time.perf_counter() - start > 300:
            process.kill()
            sys.exit("p2ctl made no dataset in 300 s")
        time.sleep(0.002)
    seconds = time.perf_counter() - start
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    records, left, size = hashlib.sha256(), count, 3 * resolution * resolution
    for name in sorted(n for n in os.listdir(dataset) if n.endswith(".p2s")):
        with open(os.path.join(dataset, name), "rb") as shard:
            # After the header the records, after those their checksums of 4 bytes each.
            held = (os.path.getsize(shard.name) - 64) // (size + 4)
            shard.seek(64)
            records.update(shard.read(held * size))
            left -= held
    if left != 0:
        sys.exit(f"p2's shards hold {count - left} records, not {count}")
    shutil.rmtree(dataset)
    return count / seconds, count / (usage.ru_utime + usage.ru_stime), records.hexdigest()


def run_two_processes(p2ctl, folder, roots, resolution):
    """Images/s of two prepares at once, each of the whole folder on a core of its own: what two cores of this machine give."""
    with ThreadPool(2) as pool:
        return sum(rate for rate, _, _ in pool.starmap(run_p2, [(p2ctl, folder, root, resolution, 1, core) for root, core in zip(roots, CORES)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--p2ctl", default="build/release/bin/p2ctl")
    parser.add_argument("--images", type=int, default=3000, help="enough for the rate to count, not the start")
    parser.add_argument("--size", default="256x256", help="width x height of the images")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    results, scaling = [], {}
    with tempfile.TemporaryDirectory() as work, multiprocessing.Pool(2) as pool:
        root, other = os.path.join(work, "root"), os.path.join(work, "other")
        for directory in (root, other):
            subprocess.run([options.p2ctl, "root", "init", directory], check=True, capture_output=True)
        for kind in ("jpg", "png"):
            folder = os.path.join(work, kind)
            make_images(folder, kind, options.images, width, height)
            rounds = []
            for _ in range(options.rounds + 1):
                this = {"p2": {t: run_p2(options.p2ctl, folder, root, options.resolution, t) for t in (1, 2)},
                        "pillow": {t: run_pillow(folder, os.path.join(work, "shard"), options.resolution, pool if t == 2 else None)
                                   for t in (1, 2)},
                        "core": run_p2(options.p2ctl, folder, root, options.resolution, 1, CORES[0])[0],
                        "processes": run_two_processes(options.p2ctl, folder, (root, other), options.resolution)}
                if len({this[what][t][2] for what in ("p2", "pillow") for t in (1, 2)}) > 1:
                    sys.exit("the records differ")
                rounds.append(this)
            rounds = rounds[1:]  # The first one warms up.
            for t in (1, 2):
                ours, theirs = [r["p2"][t][0] for r in rounds], [r["pillow"][t][0] for r in rounds]
                row = {"kind": kind, "threads": t, "p2_images_per_second": round(statistics.median(ours), 1),
                       "pillow_images_per_second": round(statistics.median(theirs), 1),
                       "ratio": round(statistics.median(a / b for a, b in zip(ours, theirs)), 3),
                       "p2_cpu_ms_per_image": round(statistics.median(1e3 / r["p2"][t][1] for r in rounds), 3),
                       "p2_rounds": [round(v, 1) for v in ours], "pillow_rounds": [round(v, 1) for v in theirs]}
                if t == 1:  # Other processes' CPU seconds are not seen from here.
                    row["ratio_per_cpu_second"] = round(statistics.median(r["p2"][1][1] / r["pillow"][1][1] for r in rounds), 3)
                results.append(row)
            pairs = [(r["p2"][2][0] / r["core"], r["processes"] / r["core"], r["p2"][2][0] / r["p2"][1][0]) for r in rounds]
            scaling[kind] = {name: {"median": round(statistics.median(values), 3), "rounds": [round(v, 3) for v in values]}
                             for name, values in zip(("two threads on two cores over one on one", "two processes on a core each over one", "two threads over one on two cores"),
                                              zip(*pairs))}
    print(json.dumps({"pillow": PIL.__version__, "size": options.size, "resolution": options.resolution, "images": options.images,
                      "cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load_average": os.getloadavg(),
                      "scaling": scaling, "results": results}, indent=1))


if __name__ == "__main__":
    main()
