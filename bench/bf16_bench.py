#!/usr/bin/env python3
"""Training in bf16 against the same run in fp32: step times of `p2-trainer --standalone`, A/B/A/B.

  P2_BIN_DIR=build/release/bin .tools/venv/bin/python bench/bf16_bench.py [--pairs 5] [--threads N] [--model NAME ...] [--steps N]

Prints one JSON object: medians of the whole step (data, forward, backward, optimizer, averages) in milliseconds, and the medians of the
pairs' ratios (above 1: bf16 is quicker). A run's first logging interval is left out: it warms up. Where Python has torch (PYTHONPATH of
the wheel), also what the CPU can give: the ratio of a product of two 1024 x 1024 matrices in torch.
"""
import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

# model: its part of the spec, and the batch.
MODELS = {
    "tiny-32": ("{image_size: 32, model_channels: 32, channel_mult: [1, 2, 2], attention_resolutions: [8], num_head_channels: 16}", 8),
    "light-128": ("{image_size: 128, model_channels: 128, channel_mult: [1, 1, 2, 3, 4], attention_resolutions: [16], num_head_channels: 64}", 1),
}


def prepare(work, size):
    folder, root = work / "images", work / "root"
    folder.mkdir()
    p2ctl = pathlib.Path(os.environ["P2_BIN_DIR"]) / "p2ctl"
    subprocess.run([p2ctl, "root", "init", root], check=True, capture_output=True)
    rng = np.random.default_rng(1)
    for i in range(16):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    # No server is there: p2ctl says so when the shards are written.
    subprocess.run([p2ctl, "--addr", "127.0.0.1:1", "dataset", "prepare", folder, "bench", "--resolution", str(size), "--root", root,
                    "-q", "--timeout", "1s"], capture_output=True, check=False)
    return next(root.rglob("dataset.json")).parent


def train(work, data, precision, model, batch, steps, threads):
    """Milliseconds a step."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        spec = pathlib.Path(out) / "bench.yaml"
        spec.write_text(f"data: {{dataset: bench}}\nmodel: {model}\npreview: {{every_images: -1}}\n"
                        f"training: {{images: {2 * steps * batch}, batch: {batch}, precision: {precision}, log_every_images: {steps * batch}}}\n")
        subprocess.run([pathlib.Path(os.environ["P2_BIN_DIR"]) / "p2-trainer", "--standalone", spec, "--data", data, "--out", out,
                        "--device", "cpu", "--threads", str(threads)], check=True, capture_output=True)
        with open(pathlib.Path(out) / "metrics.csv") as file:
            return 1e3 * float(list(csv.DictReader(file))[1]["step_seconds"])


def gemm_ratio(threads):
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    times = {torch.float32: [], torch.bfloat16: []}
    for _ in range(20):
        for dtype, seconds in times.items():
            a = torch.randn(1024, 1024).to(dtype)
            begin = time.perf_counter()
            a @ a
            seconds.append(time.perf_counter() - begin)
    return round(statistics.median(a / b for a, b in zip(times[torch.float32][2:], times[torch.bfloat16][2:])), 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--steps", type=int, default=8, help="measured steps of a run, after as many to warm up")
    options = parser.parse_args()
    report = {"load_before": os.getloadavg()[0], "threads": options.threads, "pairs": options.pairs, "steps": options.steps,
              "gemm_ratio": gemm_ratio(options.threads)}
    for name in options.model:
        model, batch = MODELS[name]
        with tempfile.TemporaryDirectory() as directory:
            work = pathlib.Path(directory)
            data = prepare(work, int(model.split("image_size: ")[1].split(",")[0]))
            pairs = [[train(work, data, precision, model, batch, options.steps, options.threads) for precision in ("fp32", "bf16")]
                     for _ in range(options.pairs)]
        ratios = [a / b for a, b in pairs]
        report[name] = {"batch": batch, "fp32_ms": round(statistics.median(a for a, _ in pairs), 1),
                        "bf16_ms": round(statistics.median(b for _, b in pairs), 1), "ratio": round(statistics.median(ratios), 3),
                        "ratios": [round(r, 3) for r in ratios]}
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
