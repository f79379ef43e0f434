#!/usr/bin/env python3
"""A plain PyTorch training loop of the paper's 256-pixel model on one GPU, for `scripts/gpu-check` to compare with.

  python3 bench/gpu_train_loop.py --precision fp32|tf32|bf16 [--channels-last] [--batch 8] [--warmup 20] [--steps 100] [--rounds 1]

The P2 loss (gamma 0.5, k 1) with the learned variance's bound as a plain mean of squares, Python's default AdamW, an EMA by mul_ and add_,
synthetic uint8 images in device memory. bf16: torch.autocast. --channels-last: model and images in torch.channels_last. cuDNN's autotuning is on: that is what people write. Prints one JSON object.
"""
import argparse
import json
import statistics
import sys
import time

import torch

from eager_unet import MODELS, Unet

PARAMETERS = 93_563_910


def train(model, ema, optimizer, images, batch, tables, autocast):
    abar, weights = tables
    device = images.device
    pick = torch.randint(images.shape[0], (batch,), device=device)
    x0 = images[pick].float().div_(127.5).sub_(1)
    t = torch.randint(1000, (batch,), device=device)
    noise = torch.randn_like(x0)
    signal = abar[t].view(-1, 1, 1, 1)
    x_t = signal.sqrt() * x0 + (1 - signal).sqrt() * noise
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        out = model(x_t, t)
    epsilon, variance = out.float().chunk(2, 1)
    loss = (weights[t] * (epsilon - noise).square().mean((1, 2, 3)) + 1e-3 * variance.square().mean((1, 2, 3))).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for average, parameter in zip(ema, model.parameters()):
            average.mul_(0.9999).add_(parameter, alpha=1e-4)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), required=True)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100, help="of one round")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    torch.manual_seed(1)
    model = Unet(MODELS["light-256"]).to(memory_format=layout)
    count = sum(p.numel() for p in model.parameters())
    assert count == PARAMETERS, f"{count} parameters, the paper's model has {PARAMETERS}"
    if not torch.cuda.is_available():
        print("gpu_train_loop.py: no CUDA device here", file=sys.stderr)
        return 77
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
    model.cuda()
    ema = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0)
    images = torch.randint(256, (64, 3, 256, 256), dtype=torch.uint8, device="cuda").contiguous(memory_format=layout)
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    tables = (abar.float().cuda(), (1 + abar / (1 - abar)).rsqrt().float().cuda())

    def steps(n):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(n):
            train(model, ema, optimizer, images, options.batch, tables, options.precision == "bf16")
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / n

    steps(options.warmup)
    seconds = [steps(options.steps) for _ in range(options.rounds)]
    print(json.dumps({"step_seconds": statistics.median(seconds), "images_per_second": options.batch / statistics.median(seconds),
                      "peak_memory_bytes": torch.cuda.max_memory_allocated(), "torch": torch.__version__}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
