"""The parts of scripts/gpu-check that run on the GPU, from a packed folder. See there."""
import csv
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zipfile

FLOP_AN_IMAGE = 1163.35e9  # Forward and backward of the 256-pixel model.
BATCH, WARMUP = 8, 20
# Dense peaks, TFLOP/s: fp32 without tensor cores, TF32, bf16. By a word of the device's name.
PEAKS = {"H200": (67, 494.7, 989.4), "H100": (67, 494.7, 989.4), "A100": (19.5, 156, 312)}
PRECISIONS = ("fp32", "tf32", "bf16")


class Failed(Exception):
    pass


def gpu():
    """{name, memory_bytes, capability, driver, torch} as python3's torch sees the first device; None where it sees none."""
    code = ("import json, torch\nassert torch.cuda.is_available()\np = torch.cuda.get_device_properties(0)\n"
            "print(json.dumps({'name': p.name, 'memory_bytes': p.total_memory, 'capability': f'{p.major}.{p.minor}', 'torch': torch.__version__,"
            "'cudnn': torch.backends.cudnn.version(), 'nccl': '.'.join(map(str, torch.cuda.nccl.version()))}))")
    done = subprocess.run(["python3", "-c", code], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def nothing_ran(only):
    for part in only or PARTS:
        print(f"{part:12} skipped: no GPU that python3's torch can use on this machine")
    print("gpu-check: nothing ran. Pack here (scripts/gpu-check --pack DIR), run DIR/gpu-check where a GPU is.", file=sys.stderr)
    return 77


def wheel_libraries():
    """The folders of python3's torch and of the NVIDIA wheels beside it."""
    code = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    torch = pathlib.Path(subprocess.run(["python3", "-c", code], check=True, capture_output=True, text=True).stdout.strip())
    return [torch / "lib", *sorted((torch.parent / "nvidia").glob("*/lib"))]


def write_dataset(directory, size, count=64):
    """Smooth colours and noise, (3, size, size), in the format of common/image/shard.h, version 1 (no checksums of records)."""
    directory.mkdir(parents=True)
    rng = random.Random(1)
    records = []
    for _ in range(count):
        row = bytes((x * rng.randrange(1, 4) + rng.randrange(256)) % 256 for x in range(size))
        records.append(b"".join(row[y % size:] + row[:y % size] for y in range(3 * size)))

    def crc32c(data):
        crc = 0xFFFFFFFF
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        return crc ^ 0xFFFFFFFF

    header = b"P2SHARD\n" + struct.pack("<IIIIIIQQQI", 1, 64, 3, size, size, 0, count, 3 * size * size, 0, 0)
    shard = header + struct.pack("<I", crc32c(header)) + b"".join(records)
    (directory / "shard-00000.p2s").write_bytes(shard)
    digests = b"".join(hashlib.sha256(record).digest() for record in records)
    (directory / "dataset.json").write_text(json.dumps({
        "format": "p2-dataset", "version": 1, "name": "synthetic", "resolution": size, "channels": 3, "count": count,
        "fingerprint": hashlib.sha256(struct.pack("<QQQQ", 1, size, 3, count) + digests).hexdigest(),
        "shards": [{"file": "shard-00000.p2s", "count": count, "bytes": len(shard), "sha256": hashlib.sha256(shard).hexdigest()}],
        "bad_count": 0, "bad_images": [], "created_by": "gpu-check"}))
    return directory


class Runner:
    def __init__(self, folder, out, work, steps, device="cuda:0"):
        self.folder, self.out, self.work, self.steps, self.device = folder, out, work, steps, device
        self.libraries = [folder / "lib", *wheel_libraries()]
        self.on_gpu = device != "cpu"
        self.logs = 0

    def environment(self, **extra):
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, self.libraries)), **extra}

    def log(self, name):
        self.logs += 1
        return self.out / f"{self.logs:02}-{name}.log"

    def program(self, name, *arguments, timeout=600, ok=(0,)):
        """What a packed program prints on stdout; stderr goes to the log."""
        path = self.log(name)
        with open(path, "w") as log:
            done = subprocess.run([self.folder / "bin" / name, *map(str, arguments)], env=self.environment(), stdout=subprocess.PIPE, stderr=log,
                                  text=True, timeout=timeout)
            log.write(done.stdout)
        if done.returncode not in ok:
            raise Failed(f"{name} ended with {done.returncode}; {path.name}: {tail(path)}")
        return done.stdout

    def start(self, out, spec, settings, *flags, **environment):
        """p2-trainer in training, with its log's path."""
        path = self.log("train")
        command = [self.folder / "bin/p2-trainer", "--standalone", spec, "--data", self.dataset(16 if spec != "ffhq-gamma0.5" else 256), "--out", out,
                   "--device", self.device]
        command += [argument for value in settings for argument in ("--set", value)] + list(flags)
        with open(path, "w") as log:
            return subprocess.Popen(list(map(str, command)), env=self.environment(**environment), stdout=log, stderr=subprocess.STDOUT), path

    def train(self, out, spec, settings, *flags, timeout=900, **environment):
        process, path = self.start(out, spec, settings, *flags, **environment)
        self.wait(process, path, timeout)
        return path.read_text()

    def wait(self, process, path, timeout=900):
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failed(f"p2-trainer was not done after {timeout} s; {path.name}: {tail(path)}") from None
        if code:
            raise Failed(f"p2-trainer ended with {code}; {path.name}: {tail(path)}")

    def dataset(self, size):
        directory = self.work / f"data-{size}"
        return directory if directory.exists() else write_dataset(directory, size)

    def tiny_spec(self):
        """A net whose steps take milliseconds; on a CPU, where only this script is tested, a still smaller one."""
        path = self.work / "tiny.yaml"
        model = "channel_mult: [1, 2, 2], attention_resolutions: [8]" if self.on_gpu else "channel_mult: [1], attention_resolutions: []"
        path.write_text("data: {dataset: synthetic}\nmodel: {image_size: 16, model_channels: 32, num_head_channels: 16, " + model
                        + "}\npreview: {every_images: -1}\n")
        return path


def tail(path):
    return " / ".join(path.read_text().splitlines()[-3:])


def hashes(out):
    """SHA-256 of weights, averages and optimizer of the newest checkpoint, as its manifest says."""
    newest = sorted(p for p in (out / "checkpoints").iterdir() if (p / "manifest.json").exists())[-1]
    files = json.loads((newest / "manifest.json").read_text())["files"]
    return {f["path"]: f["sha256"] for f in files if f["path"].endswith(".safetensors")}


def differing(a, b):
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def expect_equal(what, a, b):
    if differing(a, b):
        raise Failed(f"{what}: {', '.join(differing(a, b))} differ")


def check(runner, result):
    golden = runner.work / "golden"
    with zipfile.ZipFile(runner.folder / "golden.zip") as archive:
        archive.extractall(golden)
    report = json.loads(runner.program("p2-trainer", "check", "--fixtures", golden, "--device", runner.device, "-o", "json", ok=(0, 12)))
    bad = [case for case in report["cases"] if not case["pass"]]
    result.update(cases=len(report["cases"]), failed=[{k: case.get(k) for k in ("section", "case", "error", "tolerance", "skipped")} for case in bad])
    if bad:
        raise Failed(f"{len(bad)} of {len(report['cases'])} cases failed: " + ", ".join(case["case"] for case in bad[:5]))


def random_map(runner, result):
    text = runner.program("p2_random_cuda_test")
    result["passed"] = len(re.findall(r"^\[       OK \]", text, re.M))
    if "[  SKIPPED ]" in text or result["passed"] == 0:
        raise Failed("the device tests of the random map were skipped")


def measured(out, name):
    """images/s of the intervals after the warm-up's, from progress.csv."""
    with open(out / "progress.csv") as file:
        rows = list(csv.DictReader(file))
    rates = [1 / float(row["step_seconds"]) for row in rows[1:]]
    if not rates:
        raise Failed(f"{name}: progress.csv has no interval after the warm-up")
    return BATCH * sorted(rates)[len(rates) // 2]


def mfu(name, precision, images_per_second):
    for word, peaks in PEAKS.items():
        if word in name:
            return images_per_second * FLOP_AN_IMAGE / (1e12 * peaks[PRECISIONS.index(precision)])
    return None


def train(runner, result):
    result["variants"] = {}
    failures = []
    for precision in PRECISIONS:
        for graph in ("off", "auto"):
            name = f"{precision}{'+graph' if graph == 'auto' else ''}"
            out = runner.work / f"train-{name}"
            images = BATCH * (WARMUP + runner.steps - runner.steps % WARMUP)
            try:
                log = runner.train(out, "ffhq-gamma0.5", [
                    f"training.precision={precision}", f"training.cuda_graph={graph}", f"training.images={images}", "preview.every_images=-1",
                    f"training.log_every_images={BATCH * WARMUP}", f"checkpoint.every_images={10 * images}"])
                rate = measured(out, name)
                peak = re.search(r"device memory: peak (\d+) bytes", log)
                fallback = re.search(r'no CUDA graph: ([^"\n]*)', log)
                result["variants"][name] = {
                    "images_per_second": rate, "mfu": mfu(result["gpu"], precision, rate), "peak_memory_bytes": int(peak[1]) if peak else None,
                    "graph_fallback": fallback[1] if fallback else None}
            except Failed as error:
                failures.append(f"{name}: {error}")
                result["variants"][name] = {"failed": str(error)}
    if failures:
        raise Failed("; ".join(failures))


def torch_loop(runner, result):
    result["variants"] = {}
    for precision, layout in itertools.product(PRECISIONS, ((), ("--channels-last",))):
        name = precision + (" channels-last" if layout else "")
        path = runner.log(f"torch-{name.replace(' ', '-')}")
        with open(path, "w") as log:
            done = subprocess.run(["python3", runner.folder / "gpu_train_loop.py", "--precision", precision, "--warmup", str(WARMUP), "--steps",
                                   str(runner.steps), *layout], stdout=subprocess.PIPE, stderr=log, text=True, timeout=900)
        if done.returncode:
            raise Failed(f"the PyTorch loop in {name} ended with {done.returncode}; {path.name}: {tail(path)}")
        loop = json.loads(done.stdout)
        result["variants"][name] = {**loop, "mfu": mfu(result["gpu"], precision, loop["images_per_second"])}


def nccl(runner, result):
    """The Reducer and NCCL with one rank: the same bits as without them (a sum of one)."""
    settings = [f"training.images={BATCH * 10}"]
    runner.train(runner.work / "nccl-off", runner.tiny_spec(), settings)
    runner.train(runner.work / "nccl-on", runner.tiny_spec(), settings, "--backend", "nccl" if runner.on_gpu else "gloo")
    expect_equal("NCCL at world size 1", hashes(runner.work / "nccl-off"), hashes(runner.work / "nccl-on"))


def exact(runner, result):
    """`exact` on one rank and on two that share the GPU, over Gloo: the same bits."""
    settings = [f"training.images={BATCH * 10}", "training.reduction=exact", "training.shards=4", "resources.threads=1"]
    runner.train(runner.work / "exact-1", runner.tiny_spec(), settings)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [runner.start(runner.work / "exact-2", runner.tiny_spec(), settings, "--backend", "gloo", WORLD_SIZE="2", RANK=str(rank),
                          LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)) for rank in range(2)]
    try:
        for process, path in ranks:
            runner.wait(process, path)
    finally:
        for process, _ in ranks:
            process.kill()
    expect_equal("exact on one and on two ranks", hashes(runner.work / "exact-1"), hashes(runner.work / "exact-2"))


def checkpoint(runner, result):
    """How long training stands still while a checkpoint of the large model is taken."""
    log = runner.train(runner.work / "stall", "ffhq-gamma0.5", [
        "training.precision=bf16", f"training.images={BATCH * 60}", f"checkpoint.every_images={BATCH * 10}", "checkpoint.keep_last=1",
        "preview.every_images=-1"])
    stalls = [float(ms) for ms in re.findall(r"training stood still for ([\d.e+-]+) ms", log)]
    if len(stalls) < 2:
        raise Failed("the log names no checkpoint behind training's back")
    stalls = sorted(stalls[:-1])  # The last one waits until it is durable.
    result.update(count=len(stalls), median_ms=stalls[len(stalls) // 2], max_ms=stalls[-1])


def resume(runner, result):
    """A run that is killed after a checkpoint and goes on ends in the bits of one that was not."""
    steps = 400 if runner.on_gpu else 20
    settings = [f"training.images={BATCH * steps}", f"checkpoint.every_images={BATCH * steps // 10}", "checkpoint.keep_last=100"]
    runner.train(runner.work / "whole", runner.tiny_spec(), settings)
    out = runner.work / "killed"
    process, path = runner.start(out, runner.tiny_spec(), settings)
    deadline = time.monotonic() + 300
    while "is durable" not in path.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise Failed(f"the run made no checkpoint; {path.name}: {tail(path)}")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result["killed_after"] = max((int(p.name.split("-")[0]) for p in (out / "checkpoints").iterdir() if (p / "manifest.json").exists()), default=0)
    log = runner.train(out, runner.tiny_spec(), settings, "--resume")
    if "resumed from" not in log:
        raise Failed("it began anew")
    expect_equal("a resumed run", hashes(runner.work / "whole"), hashes(out))


PARTS = {"check": check, "random": random_map, "train": train, "torch": torch_loop, "nccl": nccl, "exact": exact, "checkpoint": checkpoint,
         "resume": resume}


def table(report):
    lines = [f"{'PART':14} {'RESULT':8} SECONDS"]
    for name, part in report["parts"].items():
        lines.append(f"{name:14} {part['status']:8} {part['seconds']:7.1f}  {part.get('reason', '')}")
    lines += ["", f"{'VARIANT':26} {'images/s':>9} {'MFU':>7} {'peak GiB':>9}"]
    for part in ("train", "torch"):
        for name, row in report["parts"].get(part, {}).get("variants", {}).items():
            if "failed" in row:
                lines.append(f"{part + ' ' + name:26} failed")
                continue
            share = "" if row["mfu"] is None else f"{100 * row['mfu']:.1f} %"
            peak = "" if row["peak_memory_bytes"] is None else f"{row['peak_memory_bytes'] / 2**30:.2f}"
            lines.append(f"{part + ' ' + name:26} {row['images_per_second']:9.1f} {share:>7} {peak:>9}  "
                         + (f"no graph: {row['graph_fallback']}" if row.get("graph_fallback") else ""))
    return "\n".join(lines)


def run(folder, out, only, steps):
    found = gpu()
    if found is None:
        return nothing_ran(only)
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    report = {"pack": json.loads((folder / "pack.json").read_text()), "gpu": found, "flop_an_image": FLOP_AN_IMAGE, "batch": BATCH,
              "steps": steps, "parts": {}}
    with tempfile.TemporaryDirectory() as work:
        runner = Runner(folder, out, pathlib.Path(work), steps)
        for name in only or PARTS:
            begin, result = time.monotonic(), {"gpu": found["name"]}
            try:
                PARTS[name](runner, result)
                result["status"] = "ok"
            except (Failed, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
                result.update(status="failed", reason=f"{type(error).__name__}: {error}")
            result["seconds"] = time.monotonic() - begin
            report["parts"][name] = result
            (out / "result.json").write_text(json.dumps(report, indent=1) + "\n")  # After each part: the machine may go.
            print(f"{name}: {result['status']}", flush=True)
    print(table(report))
    print(f"{out / 'result.json'}")
    return 0 if all(part["status"] == "ok" for part in report["parts"].values()) else 1
