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
import math
import os
import pathlib
import re
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import torch
from torch import nn
from torch.nn import functional as F

SOURCE = pathlib.Path(__file__).resolve().parents[1]
BATCH = 8
# model: image_size, model_channels, channel_mult, attention_resolutions, num_head_channels; then steps and images of one run.
MODELS = {
    "tiny-32": ((32, 32, (1, 2, 2), (8,), 16), 20, 32),
    "own-64": ((64, 64, (1, 2, 3, 4), (16,), 32), 10, 16),
}


class Residual(nn.Module):
    def __init__(self, cin, cout, width, resample=None):
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(nn.GroupNorm(32, cin), nn.SiLU(), nn.Conv2d(cin, cout, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * cout))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, cout), nn.SiLU(), nn.Identity(), nn.Conv2d(cout, cout, 3, padding=1))
        if cin != cout:
            self.skip_connection = nn.Conv2d(cin, cout, 1)

    def resampled(self, x):
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.resample == "up" else x

    def forward(self, x, emb):
        h = self.in_layers[2](self.resampled(self.in_layers[1](self.in_layers[0](x))))
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, 1)
        h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        x = self.resampled(x)
        return h + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class Attention(nn.Module):
    def __init__(self, channels, head_channels):
        super().__init__()
        self.heads = channels // head_channels
        self.norm, self.qkv = nn.GroupNorm(32, channels), nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, emb):
        b, c, length = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
        flat = x.reshape(b, c, length)
        q, k, v = self.qkv(self.norm(flat)).reshape(b * self.heads, 3 * c // self.heads, length).chunk(3, 1)
        scale = 1 / math.sqrt(math.sqrt(c // self.heads))
        weights = torch.softmax(torch.einsum("bct,bcs->bts", q * scale, k * scale), -1)
        mixed = torch.einsum("bts,bcs->bct", weights, v).reshape(b, c, length)
        return (flat + self.proj_out(mixed)).reshape(x.shape)


class Stage(nn.Sequential):
    def forward(self, x, emb):
        for block in self:
            x = block(x, emb) if isinstance(block, (Residual, Attention)) else block(x)
        return x


class Unet(nn.Module):
    """The published architecture with one residual block a level, resampling in blocks, scale-shift norms, learned variance."""

    def __init__(self, size, base, mult, attention, head_channels):
        super().__init__()
        self.base, width, factors = base, 4 * base, {size // r for r in attention}
        self.time_embed = nn.Sequential(nn.Linear(base, width), nn.SiLU(), nn.Linear(width, width))
        channels, factor, skips = base * mult[0], 1, [base * mult[0]]
        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(3, channels, 3, padding=1))])
        for level, m in enumerate(mult):
            stage = Stage(Residual(channels, base * m, width))
            channels = base * m
            if factor in factors:
                stage.append(Attention(channels, head_channels))
            self.input_blocks.append(stage)
            skips.append(channels)
            if level + 1 < len(mult):
                self.input_blocks.append(Stage(Residual(channels, channels, width, "down")))
                skips.append(channels)
                factor *= 2
        self.middle_block = Stage(Residual(channels, channels, width), Attention(channels, head_channels), Residual(channels, channels, width))
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(mult))):
            for i in range(2):
                stage = Stage(Residual(channels + skips.pop(), base * m, width))
                channels = base * m
                if factor in factors:
                    stage.append(Attention(channels, head_channels))
                if level and i == 1:
                    stage.append(Residual(channels, channels, width, "up"))
                    factor //= 2
                self.output_blocks.append(stage)
        self.out = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, 6, 3, padding=1))

    def forward(self, x, t):
        half = self.base // 2
        phases = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        emb = self.time_embed(torch.cat([phases.cos(), phases.sin()], -1))
        skips, h = [], x
        for stage in self.input_blocks:
            h = stage(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], 1), emb)
        return self.out(h)


def read_safetensors(path):
    data = path.read_bytes()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    types = {"F16": torch.float16, "F32": torch.float32, "I64": torch.int64}
    return {name: torch.frombuffer(bytearray(data[begin + e["data_offsets"][0]:begin + e["data_offsets"][1]]), dtype=types[e["dtype"]])
            .reshape(e["shape"]) for name, e in json.loads(data[8:begin]).items() if name != "__metadata__" and e["dtype"] in types}


def check_against_golden():
    model = Unet(*MODELS["tiny-32"][0])
    model.load_state_dict({k: v.float() for k, v in read_safetensors(SOURCE / "tests/golden/tiny_weights.safetensors").items()})
    cases = read_safetensors(SOURCE / "tests/golden/tiny_cases.safetensors")
    with torch.no_grad():
        worst = (model(cases["fwd.x"], cases["fwd.t"]) - cases["fwd.out"]).abs().max().item()
    assert worst < 3e-5, f"the eager model is not the reference's: {worst}"


def write_checkpoint(parent, model, options):
    """As docs/checkpoint-format.md says; without an average or an optimizer, which sampling does not need."""
    size, base, mult, attention, head_channels = options
    directory = parent / "000000000008-e1"
    directory.mkdir()
    header, chunks, at = {}, [], 0
    for name, value in model.state_dict().items():
        chunks.append(bytes(value.contiguous().view(torch.uint8).flatten().tolist()))
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + len(chunks[-1])]}
        at += len(chunks[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))
    (directory / "state.json").write_text(json.dumps({
        "format": "p2-train-state", "images_seen": 8, "step": 1, "updates": 1, "seed": 0, "batch": 8, "skipped_ranges": [],
        "fingerprint": {}, "dataset_fingerprint": "", "metric_sums": []}))
    (directory / "spec.json").write_text(json.dumps({
        "model": {"imageSize": size, "inChannels": 3, "modelChannels": base, "channelMult": mult, "numResBlocks": 1,
                  "attentionResolutions": attention, "numHeadChannels": head_channels, "resblockUpdown": True, "useScaleShiftNorm": True},
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
    parser.add_argument("--model", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--steps", type=int, help="sampler steps of a run; default: the model's")
    parser.add_argument("--images", type=int, help="images of a run; default: the model's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    check_against_golden()
    report = {"load_before": os.getloadavg()[0], "torch": torch.__version__, "threads": options.threads, "pairs": options.pairs}
    for name in options.model:
        shape, steps, images = MODELS[name]
        steps, images = options.steps or steps, options.images or images
        torch.manual_seed(1)
        model = Unet(*shape)
        with tempfile.TemporaryDirectory() as parent:
            checkpoint = write_checkpoint(pathlib.Path(parent), model, shape)
            p2_run(checkpoint, 2, 1, options.threads), eager_loop(model, shape[0], 2, BATCH)  # Warm.
            pairs = [(p2_run(checkpoint, steps, images, options.threads), eager_loop(model, shape[0], steps, images))
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
