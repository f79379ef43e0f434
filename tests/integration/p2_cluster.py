"""A whole p2 on this machine for tests: p2d, p2-worker and the trainers it starts, driven through p2ctl.

Every timeout is about a tenth of its default (Cluster(defaults=True) leaves them alone). Ports are chosen by the kernel. Waiting is always for an event, with a deadline.
"""
import contextlib
import csv
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
import zlib

BIN = pathlib.Path(os.environ["P2_BIN_DIR"])
SOURCE = pathlib.Path(__file__).resolve().parents[2]

# A U-Net of 0.2 M parameters on 16-pixel grey images: a step takes milliseconds.
TINY_SPEC = """
name: tiny
data: {dataset: dots}
model:
  image_size: 16
  in_channels: 1
  model_channels: 32
  channel_mult: [1]
  attention_resolutions: []
  num_head_channels: 16
training:
  images: %(images)d
  batch: 8
  learning_rate: 1e-3
  log_every_images: 64
  seed: 7
ema: [{rate: 0.99}]
checkpoint: {every_images: %(checkpoint)d, keep_last: 3}
preview: {every_images: %(preview)d, count: 4, steps: "5"}
resources: {devices: %(devices)d, kind: cpu, threads: 1}
restart: {budget: %(budget)d, backoff_initial: 100ms, backoff_max: 1s}
deadlines: {start: 60s, step: 20s, stop: 20s}
"""


def tiny_spec(images=1024, checkpoint=256, preview=0, devices=2, budget=3) -> str:
    return TINY_SPEC % dict(images=images, checkpoint=checkpoint, preview=preview, devices=devices, budget=budget)


def write_png(path: pathlib.Path, width: int, height: int, pixel) -> None:
    """A grey 8-bit PNG; pixel(x, y) -> 0..255."""
    rows = b"".join(b"\0" + bytes(pixel(x, y) for x in range(width)) for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def make_images(directory: pathlib.Path, count: int = 48, size: int = 16) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        write_png(directory / f"{i:03}.png", size, size, lambda x, y: 255 if (x - i % size) ** 2 + (y - i // 3) ** 2 < 16 else 20)


def wait_for(what: str, condition, timeout: float = 60.0):
    """Polls until `condition` returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    poll = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {timeout:.0f} s waiting until {what}")
        poll.wait(0.05)


class CommandFailed(AssertionError):
    def __init__(self, args, result):
        super().__init__(f"p2ctl {' '.join(args)} exited {result.returncode}\nstdout: {result.stdout}\nstderr: {result.stderr}")
        self.result = result


class Cluster:
    """Use as a context manager; everything it started is ended at the end."""

    def __init__(self, slots: int = 2, d_flags=(), worker_flags=(), defaults=False):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="p2-it-"))
        self.slots, self.d_flags, self.worker_flags = slots, list(d_flags), list(worker_flags)
        self.devices = None  # None: `slots` of kind cpu.
        if not defaults:
            self.d_flags = ["--suspect-after", "1500ms", "--lost-after", "3s", "--heartbeat-interval", "200ms", *self.d_flags]
            self.worker_flags = ["--silence-timeout", "4s", "--log-interval", "50ms", *self.worker_flags]
        self.processes: dict[str, subprocess.Popen] = {}
        self.ports = {}
        self.root = self.dir / "root"
        self.env = dict(os.environ, XDG_STATE_HOME=str(self.dir / "state"), XDG_CONFIG_HOME=str(self.dir / "config"), NO_COLOR="1")
        for name in ("P2_ADDR", "P2_OUTPUT"):
            self.env.pop(name, None)

    def __enter__(self):
        self.p2ctl("root", "init", str(self.root))
        self.start_p2d()
        self.start_worker()
        self.add_dataset()
        return self

    def __exit__(self, kind, *_):
        for name in reversed(list(self.processes)):
            self.end(name)
        for pid in self.trainers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if kind is not None:
            self.show_logs()
        shutil.rmtree(self.dir, ignore_errors=True)

    def show_logs(self):
        for log in sorted(self.dir.glob("*.log")) + sorted(self.dir.glob("worker*/attempts/*/*.log")):
            print(f"--- {log.name} (its end)\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:]))

    # Processes.

    def _start(self, name: str, args: list[str]) -> dict:
        ready = self.dir / f"{name}.ready"
        ready.unlink(missing_ok=True)
        with open(self.dir / f"{name}.log", "ab") as log:
            process = subprocess.Popen([str(a) for a in args] + ["--ready-file", str(ready)], stdout=log, stderr=log, env=self.env)
        self.processes[name] = process

        def is_ready():
            if process.poll() is not None:
                text = (self.dir / f"{name}.log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"{name} ended with {process.returncode} before it was ready:\n{text}")
            return ready.exists() and json.loads(ready.read_text() or "null")

        return wait_for(f"{name} is ready", is_ready)

    def start_p2d(self, **changes) -> None:
        grpc, http = self.ports.get("grpc", 0), self.ports.get("http", 0)
        ready = self._start("p2d", [BIN / "p2d", "--data-dir", self.dir / "p2d", "--listen", f"127.0.0.1:{grpc}", "--http", f"127.0.0.1:{http}",
                                    *self.d_flags])
        self.ports = {name: int(ready[name].rsplit(":", 1)[1]) for name in ("grpc", "http")} | {k: v for k, v in self.ports.items() if k[0] == "w"}
        self.env["P2_ADDR"] = f"127.0.0.1:{self.ports['grpc']}"

    def start_worker(self, name: str = "w0", slots: int | None = None, roots: dict[str, pathlib.Path] | None = None) -> None:
        root_flags = [flag for root, path in (roots or {"main": self.root}).items() for flag in ("--root", f"{root}={path}")]
        devices = self.devices or f"cpu:{slots or self.slots}"
        ready = self._start(name, [BIN / "p2-worker", "--coordinator", self.env["P2_ADDR"], "--name", name, "--devices", devices,
                                   *root_flags, "--data-dir", self.dir / f"worker-{name}", "--http", "127.0.0.1:0",
                                   *self.worker_flags])
        self.ports[name] = int(ready["http_port"])

    def pid(self, name: str) -> int:
        return self.processes[name].pid

    def signal(self, name: str, number: int) -> None:
        self.processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        """SIGKILL, and reaps it."""
        self.signal(name, signal.SIGKILL)
        self.processes.pop(name).wait(10)

    def end(self, name: str, timeout: float = 40) -> int:
        """SIGTERM; returns the exit code."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            return -signal.SIGKILL

    def trainers(self) -> dict[int, int]:
        """pid -> rank of the trainers of this cluster that live (zombies do not)."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if str(self.dir).encode() not in (entry / "cmdline").read_bytes():
                    continue
                if (entry / "exe").resolve().name != "p2-trainer":
                    continue
                environment = dict(v.split(b"=", 1) for v in (entry / "environ").read_bytes().split(b"\0") if b"=" in v)
                found[int(entry.name)] = int(environment[b"RANK"])
        return found

    # p2ctl.

    def run(self, *args: str, timeout: float = 120, stdin: str | None = None) -> subprocess.CompletedProcess:
        return subprocess.run([str(BIN / "p2ctl"), *map(str, args)], env=self.env, capture_output=True, text=True, timeout=timeout, input=stdin)

    def p2ctl(self, *args: str, timeout: float = 120) -> str:
        result = self.run(*args, timeout=timeout)
        if result.returncode != 0:
            raise CommandFailed([str(a) for a in args], result)
        return result.stdout

    def json(self, *args: str):
        return json.loads(self.p2ctl(*args, "-o", "json"))

    def add_dataset(self, name: str = "dots", count: int = 48, size: int = 16) -> None:
        images = self.dir / f"images-{name}"
        make_images(images, count, size)
        self.p2ctl("dataset", "prepare", images, name, "--resolution", size, "--channels", 1, "--root", self.root)

    def submit(self, spec: str, *flags: str) -> str:
        file = self.dir / "spec.yaml"
        file.write_text(spec)
        return self.p2ctl("submit", "-f", file, *flags, "-o", "name").strip().removeprefix("jobs/")

    def job(self, job: str) -> dict:
        return self.json("get", job)

    def wait_state(self, job: str, state: str, timeout: float = 120) -> dict:
        def reached():
            now = self.job(job)
            if now["state"] in ("FAILED", "SUCCEEDED", "CANCELLED") and now["state"] != state:
                raise AssertionError(f"{job} is {now['state']} ({now.get('message', '')}), not {state}")
            return now["state"] == state and now

        return wait_for(f"{job} is {state}", reached, timeout)

    def wait_images(self, job: str, images: int, timeout: float = 120) -> dict:
        def reached():
            now = self.job(job)
            if now["state"] in ("FAILED", "CANCELLED"):
                raise AssertionError(f"{job} is {now['state']}: {now.get('message', '')}")
            return int(now.get("progress", {}).get("imagesSeen", 0)) >= images and now

        return wait_for(f"{job} has seen {images} images", reached, timeout)

    def points(self, job: str, metric: str = "loss", *flags: str) -> list[tuple[int, float]]:
        """(images seen, value) of a metric, as p2 shows it."""
        lines = self.p2ctl("metrics", job, "-m", metric, "-o", "jsonl", *flags).splitlines()
        return [(int(p["imagesSeen"]), float(p["values"][metric])) for p in map(json.loads, lines)]

    def checkpoint_dir(self, job: str) -> pathlib.Path:
        return self.root / "jobs" / job / "checkpoints"

    def progress_csv(self, job: str) -> list[dict[str, str]]:
        with open(self.root / "jobs" / job / "progress.csv", newline="") as file:
            return list(csv.DictReader(file))

    def final_digests(self, job: str) -> dict[str, str]:
        """SHA-256 of each tensor file of the newest committed checkpoint."""
        newest = max(self.json("ckpt", "list", job)["items"], key=lambda c: int(c["imagesSeen"]))
        return {f["path"]: f["sha256"] for f in newest["files"] if f["path"].endswith(".safetensors")}
