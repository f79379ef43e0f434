#!/usr/bin/env python3
"""p2's training step against a plain PyTorch eager loop, and against itself: same model, same weights, same threads, A/B/A/B.

  ninja -C build/release train_bench p2-trainer
  P2_BIN_DIR=build/release/bin .venv/bin/python bench/train_bench.py [CASE ...] [--pairs N] [--steps N] [--threads N] [--model NAME]

  step        the whole step and forward + backward alone, p2 / eager
  optimizer   AdamW, average and zeroing of gradients, p2 / eager; on the paper's model (93.6 M parameters) unless --model says otherwise
  bf16        p2 in bf16 / p2 in fp32, beside what the CPU makes of a matrix product
  ranks       two ranks over Gloo, one thread each / one process with two threads, the same global batch (p2-trainer --standalone)
  random-map  timesteps and noise, part of a step
  checkpoint  what training waits for a checkpoint, part of the time until it is durable, and the step beside it / a step alone (the paper's model)
  memory      peak of a process that trains the paper's model with batch 1, p2 / eager

Prints one JSON object. Ratios are speeds (above 1: the first is quicker), except those of memory: the median over the pairs, beside the
pairs themselves. With one thread they are ratios of CPU time, which a busy machine disturbs less; with more, of wall time, for waiting
threads burn CPU time. The eager loop is PyTorch as one writes it: default AdamW, default zero_grad, an average by mul_ and add_, the same
loss with its bound term; it keeps no metrics and looks at no gradient norm, which p2 does. The model is checked against tests/golden first.
"""
import argparse
import csv
import json
import math
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from eager_unet import MODELS, Unet, check_against_golden, write_safetensors

BATCH = {"tiny": 8, "mnist-demo": 32, "own-64": 8, "light-128": 1, "light-256": 1}  # train_bench's own.
BIN = pathlib.Path(os.environ.get("P2_BIN_DIR", "build/release/bin"))


def flat_mean(x):
    return x.flatten(1).mean(1)


def normal_cdf(x):
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Eager:
    """Training as one writes it in PyTorch."""

    def __init__(self, name, batch):
        shape = MODELS[name]
        torch.manual_seed(1)
        self.model, self.batch = Unet(shape), batch
        self.parameters = list(self.model.parameters())
        self.ema = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=2e-5, weight_decay=0)
        self.images = torch.randint(0, 256, (max(32, batch), shape.colors, shape.image_size, shape.image_size), dtype=torch.uint8)
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        abar = torch.cumprod(1 - betas, 0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), abar[:-1]])
        posterior = betas * (1 - before) / (1 - abar)
        tables = {"signal": abar.sqrt(), "spread": (1 - abar).sqrt(), "weight": 1 / (1 + abar / (1 - abar)), "log_beta": betas.log(),
                  "log_posterior": torch.cat([posterior[1:2], posterior[1:]]).log(), "coef0": betas * before.sqrt() / (1 - abar),
                  "coef_t": (1 - before) * (1 - betas).sqrt() / (1 - abar), "recip": (1 / abar).sqrt(), "recipm1": (1 / abar - 1).sqrt()}
        self.tables = {key: value.float() for key, value in tables.items()}

    def loss(self, x0, t, noise):
        """Weighted squared error and the bound's term with the mean frozen, as the published code has them."""
        at = {key: table[t][:, None, None, None] for key, table in self.tables.items()}
        x_t = at["signal"] * x0 + at["spread"] * noise
        epsilon, v = self.model(x_t, t).chunk(2, 1)
        mse = self.tables["weight"][t] * flat_mean((noise - epsilon) ** 2)
        fraction = (v + 1) / 2
        log_variance = fraction * at["log_beta"] + (1 - fraction) * at["log_posterior"]
        mean = at["coef0"] * (at["recip"] * x_t - at["recipm1"] * epsilon.detach()) + at["coef_t"] * x_t
        true_mean = at["coef0"] * x0 + at["coef_t"] * x_t
        kl = 0.5 * (-1 + log_variance - at["log_posterior"] + torch.exp(at["log_posterior"] - log_variance)
                    + (true_mean - mean) ** 2 * torch.exp(-log_variance))
        inverse = torch.exp(-0.5 * log_variance)
        above, below = normal_cdf(inverse * (x0 - mean + 1 / 255)), normal_cdf(inverse * (x0 - mean - 1 / 255))
        likelihood = torch.where(x0 < -0.999, above.clamp(min=1e-12).log(), torch.where(
            x0 > 0.999, (1 - below).clamp(min=1e-12).log(), (above - below).clamp(min=1e-12).log()))
        vb = torch.where(t == 0, -flat_mean(likelihood), flat_mean(kl)) / math.log(2)
        return (mse + vb).mean()

    def step(self, clock):
        """Seconds of forward and backward, by `clock`."""
        x0 = self.images[torch.randint(0, len(self.images), (self.batch,))].float() / 127.5 - 1
        x0 = torch.where(torch.rand(self.batch, 1, 1, 1) < 0.5, x0.flip(3), x0)
        begin = clock()
        self.optimizer.zero_grad()
        self.loss(x0, torch.randint(0, 1000, (self.batch,)), torch.randn_like(x0)).backward()
        passes = clock() - begin
        self.optimizer.step()
        self.average()
        return passes

    def average(self):
        with torch.no_grad():
            for average, parameter in zip(self.ema, self.parameters):
                average.mul_(0.9999).add_(parameter, alpha=1 - 0.9999)

    def round(self, steps, clock):
        """As P2.round."""
        begin, passes = clock(), 0
        for _ in range(steps):
            passes += self.step(clock)
        return {"step": 1e3 * (clock() - begin) / steps, "forward_backward": 1e3 * passes / steps}

    def optimizer_round(self, steps, clock, zeroing):
        gradients = [torch.zeros_like(p) for p in self.parameters]
        spent = 0
        for _ in range(steps):
            for parameter, gradient in zip(self.parameters, gradients):
                parameter.grad = gradient
            begin = clock()
            self.optimizer.step()
            self.average()
            self.optimizer.zero_grad(set_to_none=not zeroing)
            spent += clock() - begin
        return 1e3 * spent / steps


class P2:
    """A train_bench that waits between rounds."""

    def __init__(self, options, *arguments, clock=None):
        clock = clock or ("cpu" if options.threads == 1 else "wall")
        self.total = f"{clock}_ms"
        self.process = subprocess.Popen([BIN / "train_bench", "--wait", "--threads", str(options.threads), "--phase-clock", clock, *arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.last = None
        self.round()  # Builds and warms up.

    def round(self):
        """Milliseconds a step: the whole and its phases."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"train_bench ended with {self.process.wait()}")
        self.last = json.loads(line)
        return {"step": self.last[self.total], **self.last["phases_ms"]}

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def summary(first, second):
    """`first` and `second`: milliseconds by pair."""
    ratios = [b / a for a, b in zip(first, second)]
    return {"first_ms": round(statistics.median(first), 3), "second_ms": round(statistics.median(second), 3),
            "ratio": round(statistics.median(ratios), 3), "ratios": [round(r, 3) for r in ratios]}


def clock_of(options):
    return time.process_time if options.threads == 1 else time.perf_counter


def case_step(options):
    report = {}
    for name in options.model or ["tiny", "mnist-demo"]:
        batch = options.batch or BATCH[name]
        eager = Eager(name, batch)
        with tempfile.TemporaryDirectory() as directory:
            weights = pathlib.Path(directory) / "weights.safetensors"
            write_safetensors(weights, eager.model.state_dict())
            with P2(options, "--model", name, "--batch", str(batch), "--steps", str(options.steps), "--weights", weights) as p2:
                eager.round(2, clock_of(options))
                pairs = [(p2.round(), eager.round(options.steps, clock_of(options))) for _ in range(options.pairs)]
        report[name] = {"batch": batch, "parameters": p2.last["parameters"]}
        for part in ("step", "forward_backward"):
            report[name][part] = summary([a[part] for a, _ in pairs], [b[part] for _, b in pairs])
        report[name]["p2"] = {key: p2.last[key] for key in ("phases_ms", "images_per_second", "allocations_per_step",
                                                            "allocated_bytes_per_step", "peak_bytes_of_a_step")}
    return report


def case_optimizer(options):
    report = {}
    for name in options.model or ["light-256"]:
        eager = Eager(name, 1)
        with P2(options, "--model", name, "--phase", "optimizer", "--steps", str(options.steps)) as p2:
            eager.optimizer_round(1, clock_of(options), False)
            rounds = [(p2.round(), *(eager.optimizer_round(options.steps, clock_of(options), zeroing) for zeroing in (False, True)))
                      for _ in range(options.pairs)]
        ours = [a["step"] for a, _, _ in rounds]
        report[name] = {"parameters": p2.last["parameters"], "phases_ms": p2.last["phases_ms"],
                        "zero_grad as torch's default (set to none)": summary(ours, [b for _, b, _ in rounds]),
                        "zero_grad that zeroes, as the published code": summary(ours, [c for _, _, c in rounds])}
    return report


def product_ratio(threads):
    """bf16 / fp32 of a product of two 1024 x 1024 matrices."""
    torch.set_num_threads(threads)
    times = {torch.float32: [], torch.bfloat16: []}
    for _ in range(20):
        for dtype, seconds in times.items():
            a = torch.randn(1024, 1024).to(dtype)
            begin = time.process_time()
            a @ a
            seconds.append(time.process_time() - begin)
    return round(statistics.median(a / b for a, b in zip(times[torch.float32][2:], times[torch.bfloat16][2:])), 3)


def case_bf16(options):
    report = {"product_ratio": product_ratio(options.threads)}
    for name in options.model or ["tiny", "light-128"]:
        common = ("--model", name, "--steps", str(options.steps))
        with P2(options, *common, "--precision", "bf16") as bf16, P2(options, *common) as fp32:
            pairs = [(bf16.round(), fp32.round()) for _ in range(options.pairs)]
        report[name] = {"batch": bf16.last["batch"], **summary([a["step"] for a, _ in pairs], [b["step"] for _, b in pairs]),
                        "peak_bytes_of_a_step": [bf16.last["peak_bytes_of_a_step"], fp32.last["peak_bytes_of_a_step"]]}
    return report


def train(data, name, batch, steps, ranks, threads):
    """Milliseconds a step of p2-trainer --standalone; the first logging interval warms up."""
    shape = MODELS[name]
    with tempfile.TemporaryDirectory() as out, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        spec = pathlib.Path(out) / "bench.yaml"
        spec.write_text(
            f"data: {{dataset: bench}}\nmodel: {{image_size: {shape.image_size}, in_channels: {shape.colors}, model_channels: {shape.model_channels}, "
            f"channel_mult: {list(shape.channel_mult)}, attention_resolutions: {list(shape.attention_resolutions)}, "
            f"num_head_channels: {shape.head_channels}}}\npreview: {{every_images: -1}}\n"
            f"training: {{images: {2 * steps * batch}, batch: {batch}, log_every_images: {steps * batch}}}\n")
        free.close()
        processes = []
        for rank in range(ranks):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            processes.append(subprocess.Popen(
                [BIN / "p2-trainer", "--standalone", spec, "--data", data, "--out", out, "--device", "cpu", "--threads", str(threads)],
                env={**os.environ, **{key: str(value) for key, value in place.items()}}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        for process in processes:
            errors = process.communicate()[1]
            if process.returncode != 0:
                sys.exit(errors)
        with open(pathlib.Path(out) / "progress.csv") as file:
            return 1e3 * float(list(csv.DictReader(file))[1]["step_seconds"])


def case_ranks(options):
    report = {}
    for name in options.model or ["tiny", "mnist-demo"]:
        batch = options.batch or BATCH[name]
        with tempfile.TemporaryDirectory() as data:
            subprocess.run([BIN / "train_bench", "--model", name, "--batch", str(batch), "--write-dataset", data], check=True)
            pairs = [(train(data, name, batch, options.steps, 2, 1), train(data, name, batch, options.steps, 1, 2)) for _ in range(options.pairs)]
        report[name] = {"batch": batch, **summary([a for a, _ in pairs], [b for _, b in pairs])}
    return report


def case_random_map(options):
    report = {}
    for name in options.model or ["tiny", "own-64"]:
        with P2(options, "--model", name, "--phase", "random-map", "--steps", str(50 * options.steps)) as draws, \
                P2(options, "--model", name, "--steps", str(options.steps)) as step:
            pairs = [(draws.round()["step"], step.round()["step"]) for _ in range(options.pairs)]
        report[name] = {"draws_ms": round(statistics.median(a for a, _ in pairs), 3), "step_ms": round(statistics.median(b for _, b in pairs), 1),
                        "part_of_a_step": round(statistics.median(a / b for a, b in pairs), 5)}
    return report


def case_checkpoint(options):
    report = {}
    for name in options.model or ["light-256"]:
        with P2(options, "--model", name, "--phase", "checkpoint", "--steps", "1", "--warmup", "1", clock="wall") as p2:
            rounds = [p2.round() for _ in range(options.pairs)]
        report[name] = {**{f"{key}_ms": round(statistics.median(r[key] for r in rounds), 1) for key in ("wait", "write", "step_alone", "step_beside")},
                        "wait_part_of_write": round(statistics.median(r["wait"] / r["write"] for r in rounds), 5),
                        "parts": [round(r["wait"] / r["write"], 5) for r in rounds],
                        "step_beside_over_alone": [round(r["step_beside"] / r["step_alone"], 3) for r in rounds]}
    return report


def peak_resident_bytes():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0


def case_memory(options):
    report = {}
    for name in options.model or ["light-256"]:
        ours = json.loads(subprocess.run(
            [BIN / "train_bench", "--model", name, "--batch", str(options.batch or 1), "--threads", str(options.threads), "--steps", "1", "--warmup", "1"],
            check=True, capture_output=True, text=True).stdout)["peak_resident_bytes"]
        eager = int(subprocess.run(
            [sys.executable, __file__, "--eager-memory", name, "--batch", str(options.batch or 1), "--threads", str(options.threads)],
            check=True, capture_output=True, text=True).stdout)
        report[name] = {"batch": options.batch or 1, "p2_bytes": ours, "eager_bytes": eager, "ratio": round(ours / eager, 3)}
    return report


CASES = {"step": case_step, "optimizer": case_optimizer, "bf16": case_bf16, "ranks": case_ranks, "random-map": case_random_map,
         "checkpoint": case_checkpoint, "memory": case_memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6, help="of a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, help="default: the model's")
    parser.add_argument("--model", nargs="*", choices=MODELS, help="default: the case's")
    parser.add_argument("--eager-memory", choices=MODELS, help=argparse.SUPPRESS)  # A process for case_memory.
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    if options.eager_memory:
        eager = Eager(options.eager_memory, options.batch)
        eager.round(3, time.perf_counter)
        print(peak_resident_bytes())
        return 0
    if unknown := set(options.case) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}: there are {', '.join(CASES)}")
    check_against_golden()
    report = {"torch": torch.__version__, "threads": options.threads, "pairs": options.pairs, "steps": options.steps,
              "clock": "cpu" if options.threads == 1 else "wall"}
    for case in options.case or CASES:
        load = os.getloadavg()[0]
        report[case] = {"load_before": load, **CASES[case](options)}
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
