#!/usr/bin/env python3
"""Images a second of `p2-trainer sample` and their ratio to a plain PyTorch eager loop: same weights, same steps, same threads.

  P2_BIN_DIR=build/release/bin .venv/bin/python bench/sample_bench.py [--pairs 5] [--threads N] [--model NAME ...] [--steps N] [--images N]

Runs A/B/A/B on this machine and prints one JSON object: medians, and the median of the pairs' ratios (above 1: p2 is quicker), by the
clock and by CPU time (for a busy machine, with --threads 1: waiting threads burn CPU time). p2's time is from the first step to the last
PNG on disk, without the start of the process (a run that finds its images there takes just that); the loop's is its sampling alone, in
batches of 8. Before that the eager model is checked against tests/golden.
"""
import argparse
import hashlib
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from eager_unet import MODELS, Unet, check_against_golden, write_safetensors

BATCH = 8
# model: steps and images of one run.
RUNS = {"tiny": (20, 32), "own-64": (10, 16)}


def write_checkpoint(parent, model, shape):
    """As docs/checkpoint-format.md says; without an average or an optimizer, which sampling does not need."""
    directory = parent / "000000000008-e1"
    directory.mkdir()
    write_safetensors(directory / "model.safetensors", model.state_dict())
    (directory / "state.json").write_text(json.dumps({
        "format": "p2-train-state", "images_seen": 8, "step": 1, "updates": 1, "seed": 0, "batch": 8, "skipped_ranges": [],
        "fingerprint": {}, "dataset_fingerprint": "", "metric_sums": []}))
    (directory / "spec.json").write_text(json.dumps({
        "model": {"imageSize": shape.image_size, "inChannels": shape.colors, "modelChannels": shape.model_channels,
                  "channelMult": shape.channel_mult, "numResBlocks": 1, "attentionResolutions": shape.attention_resolutions,
                  "numHeadChannels": shape.head_channels, "resblockUpdown": True, "useScaleShiftNorm": True},
        "diffusion": {"timesteps": 1000, "noiseSchedule": "LINEAR", "learnSigma": True}}))
    files = [{"path": p.name, "size_bytes": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
             for p in sorted(directory.iterdir())]
    (directory / "manifest.json").write_text(json.dumps({
        "format": "p2-checkpoint", "version": 1, "images_seen": 8, "epoch": 1, "attempt": 1, "ema_profiles": [], "files": files}))
    return directory


def eager_loop(model, size, steps, images):
    """Ancestral sampling as one writes it in PyTorch. Returns images a second by the clock and by CPU time."""
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    kept = [round(i * 999 / (steps - 1)) for i in range(steps)]
    abar = abar[kept]
    before = torch.cat([torch.ones(1, dtype=torch.float64), abar[:-1]])
    beta = 1 - abar / before
    posterior = (beta * (1 - before) / (1 - abar))
    log_posterior = torch.cat([posterior[1:2], posterior[1:]]).log().float()
    log_beta, coef0, coef1 = beta.log().float(), (beta * before.sqrt() / (1 - abar)).float(), ((1 - before) * (1 - beta).sqrt() / (1 - abar)).float()
    recip, recipm1 = (1 / abar).sqrt().float(), (1 / abar - 1).sqrt().float()
    begin, cpu = time.perf_counter(), time.process_time()
    with torch.no_grad():
        for first in range(0, images, BATCH):
            x = torch.randn(min(BATCH, images - first), 3, size, size)
            for i in reversed(range(steps)):
                epsilon, v = model(x, torch.full((x.shape[0],), kept[i])).chunk(2, 1)
                x0 = (recip[i] * x - recipm1[i] * epsilon).clamp(-1, 1)
                fraction = (v + 1) / 2
                log_variance = fraction * log_beta[i] + (1 - fraction) * log_posterior[i]
                x = coef0[i] * x0 + coef1[i] * x
                if i:
                    x = x + (0.5 * log_variance).exp() * torch.randn_like(x)
            ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)
    return images / (time.perf_counter() - begin), images / (time.process_time() - cpu)


def p2_run(checkpoint, steps, images, threads):
    """Images a second by the clock and by CPU time."""
    def run(out):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        text = subprocess.run([pathlib.Path(os.environ["P2_BIN_DIR"]) / "p2-trainer", "sample", checkpoint, "--out", out, "--count", str(images),
                               "--steps", str(steps), "--device", "cpu", "--threads", str(threads)],
                              check=True, capture_output=True, text=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return text, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    with tempfile.TemporaryDirectory() as out:
        text, cpu = run(out)
        start = run(out)[1]
    return float(re.search(r"([\d.e+-]+) images/s", text)[1]), images / (cpu - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument("--steps", type=int, help="sampler steps of a run; default: the model's")
    parser.add_argument("--images", type=int, help="images of a run; default: the model's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    check_against_golden()
    report = {"load_before": os.getloadavg()[0], "torch": torch.__version__, "threads": options.threads, "pairs": options.pairs}
    for name in options.model:
        shape, (steps, images) = MODELS[name], RUNS[name]
        steps, images = options.steps or steps, options.images or images
        torch.manual_seed(1)
        model = Unet(shape).eval()
        with tempfile.TemporaryDirectory() as parent:
            checkpoint = write_checkpoint(pathlib.Path(parent), model, shape)
            p2_run(checkpoint, 2, 1, options.threads), eager_loop(model, shape.image_size, 2, BATCH)  # Warm.
            pairs = [(p2_run(checkpoint, steps, images, options.threads), eager_loop(model, shape.image_size, steps, images))
                     for _ in range(options.pairs)]
        report[name] = {
            "parameters": sum(p.numel() for p in model.parameters()), "steps": steps, "images": images,
            "p2_images_per_second": round(statistics.median(a[0] for a, _ in pairs), 3),
            "eager_images_per_second": round(statistics.median(b[0] for _, b in pairs), 3),
            "ratio": round(statistics.median(a[0] / b[0] for a, b in pairs), 3),
            "ratios": [round(a[0] / b[0], 3) for a, b in pairs],
            "cpu_time_ratio": round(statistics.median(a[1] / b[1] for a, b in pairs), 3),
            "cpu_time_ratios": [round(a[1] / b[1], 3) for a, b in pairs]}
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
