"""Real processes under faults: a p2d, workers, stub trainers, and the disks and clocks they see."""
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from p2_cluster import BIN, Cluster  # noqa: E402

from api import Api  # noqa: E402

TESTS = BIN.parent / "tests"
STUB = TESTS / "p2_chaos_trainer"
FAULT_IO = TESTS / "libp2_fault_io.so"

# 8 images a step of about 1 ms.
SPEC = """
name: chaos
data: {dataset: dots}
model: {image_size: 16, in_channels: 1, model_channels: 32, channel_mult: [1], attention_resolutions: [], num_head_channels: 16}
training: {images: %(images)d, batch: 8, learning_rate: 1e-3, log_every_images: 64, seed: %(seed)d}
ema: [{rate: 0.99}]
checkpoint: {every_images: %(checkpoint)d, keep_last: 3}
preview: {every_images: -1}
resources: {devices: %(devices)d, kind: cpu, threads: 1}
restart: {budget: 1000, backoff_initial: 20ms, backoff_max: 100ms}
deadlines: {start: 20s, step: 5s, save: 10s, stop: 5s}
"""


def spec(images=480, checkpoint=160, devices=1, seed=7) -> str:
    return SPEC % dict(images=images, checkpoint=checkpoint, devices=devices, seed=seed)


def expected_losses(seed: int, images: int, batch: int = 8, every: int = 64) -> list[tuple[int, float]]:
    """What an uninterrupted run of the stub trainer reports (stub_trainer.cc)."""
    w, losses = (31 * seed) % (1 << 20), []
    for step in range(1, images // batch + 1):
        w = (1103 * w + step + seed) % (1 << 20)
        if step * batch // every > (step - 1) * batch // every:
            losses.append((step * batch, w / (1 << 20)))
    return losses


class Skip(Exception):
    """This machine cannot run the test; the text says what it lacks."""


@dataclasses.dataclass
class Run:
    """One run of one test."""
    test: str
    night: bool
    seed: int
    figures: dict = dataclasses.field(default_factory=dict)

    def dice(self, name) -> random.Random:
        return random.Random(f"{self.seed}/{self.test}/{name}")

    def volume(self, small: int, night: int) -> int:
        return night if self.night else small

    def note(self, **figures):
        """For the summary line; `n` counts what the bound is about."""
        self.figures.update(figures)


class ChaosCluster(Cluster):
    """Timeouts are about a tenth of their defaults. The stub trainer runs unless `real`."""

    # At a tenth of the timeouts a loaded machine freezes ranks of several jobs, which is no reason to give its node up.
    D_FLAGS = ["--cordon-after-jobs", "0", "--suspect-after", "1s", "--lost-after", "2s", "--heartbeat-interval", "200ms", "--prepare-timeout", "5s", "--gang-backoff", "100ms",
               "--tick-interval", "20ms", "--disk-interval", "100ms", "--shutdown-grace", "500ms", "--delete-retry", "5s"]
    WORKER_FLAGS = ["--silence-timeout", "3s", "--log-interval", "50ms", "--reconnect-max", "200ms", "--welcome-timeout", "2s", "--hold-timeout", "6s",
                    "--gang-grace", "300ms", "--flush-timeout", "500ms", "--roots-interval", "1s", "--connection-timeout", "2s"]

    def __init__(self, workers: int = 2, slots: int = 2, real: bool = False, d_flags=()):
        super().__init__(slots=slots, defaults=True)
        self.d_flags = [*self.D_FLAGS, *d_flags]
        self.worker_flags = [*self.WORKER_FLAGS]
        self.trainer = BIN / "p2-trainer" if real else STUB
        self.names = [f"w{i}" for i in range(workers)]
        self.d_data = self.dir / "p2d"
        self.d_env: dict[str, str] = {}
        self.ready_seconds: list[float] = []
        self.real = real
        self.host = "127.0.0.1"
        self.trainer_name = "p2-trainer" if real else STUB.name
        self._api = None

    def __enter__(self):
        if self.real:
            self.p2ctl("root", "init", str(self.root))
        else:
            self.root.mkdir(parents=True)
            (self.root / ".p2-root-id").write_text(str(uuid.uuid4()))
        self.start_p2d()
        for name in self.names:
            self.start_worker(name)
        self.await_workers()
        if self.real:
            self.add_dataset()
        else:
            self.add_empty_dataset()
        return self

    def await_workers(self) -> None:
        def ready():
            return {w.name.removeprefix("workers/") for w in self.api.pages("ClusterService/ListWorkers", "workers") if w.state == 1} >= set(self.names)

        quick_wait("p2d knows the workers", ready)

    def add_empty_dataset(self) -> None:
        """The stub trainer reads no image; p2-worker reads the fingerprint."""
        fingerprint = "0" * 64
        directory = self.root / "datasets" / "dots"
        directory.mkdir(parents=True)
        (directory / "dataset.json").write_text(json.dumps({"fingerprint": fingerprint}))
        self.api.call("DatasetService/RegisterDataset", wait=True, request_id="dots",
                      dataset=dict(name="datasets/dots", root="main", root_id=(self.root / ".p2-root-id").read_text(), path="datasets/dots", resolution=16,
                                   channels=1, image_count=48, size_bytes=48, fingerprint=fingerprint))

    def __exit__(self, kind, *rest):
        if self._api is not None:
            self._api.close()
        super().__exit__(kind, *rest)

    @property
    def api(self) -> Api:
        if self._api is None or self._api.address != self.env["P2_ADDR"]:
            self._api = Api(self.env["P2_ADDR"])
        return self._api

    def start_p2d(self, env=None, flags=(), prefix=()) -> None:
        """Until it serves. `env`: for this start only; P2_FAILPOINTS in it adds --enable-failpoints. `prefix`: runs it."""
        begin = time.monotonic()
        self.spawn_p2d(env, flags, prefix)
        self.await_p2d()
        self.ready_seconds.append(time.monotonic() - begin)

    def spawn_p2d(self, env=None, flags=(), prefix=()) -> subprocess.Popen:
        env = {**self.d_env, **(env or {})}
        failpoints = ["--enable-failpoints"] if "P2_FAILPOINTS" in env else []
        return self._spawn("p2d", [*prefix, BIN / "p2d", "--data-dir", self.d_data, "--listen", f"{self.host}:{self.ports.get('grpc', 0)}",
                                   "--http", f"127.0.0.1:{self.ports.get('http', 0)}", *self.d_flags, *flags, *failpoints], env)

    def await_p2d(self, timeout: float = 30) -> None:
        ready = self._await_ready("p2d", timeout)
        self.ports.update({name: int(ready[name].rsplit(":", 1)[1]) for name in ("grpc", "http")})
        self.env["P2_ADDR"] = f"{self.host}:{self.ports['grpc']}"

    def start_worker(self, name: str = "w0", env=None, flags=(), prefix=()) -> None:
        env = env or {}
        failpoints = ["--enable-failpoints"] if {"P2_FAILPOINTS", "P2_TRAINER_FAILPOINTS"} & env.keys() else []
        self._spawn(name, [*prefix, BIN / "p2-worker", "--coordinator", self.env["P2_ADDR"], "--name", name, "--devices", f"cpu:{self.slots}",
                           "--root", f"main={self.root}", "--data-dir", self.worker_data(name), "--http", "off", "--trainer", self.trainer, *self.worker_flags, *flags,
                           *failpoints], env)
        self._await_ready(name, 30)

    def worker_data(self, name: str) -> pathlib.Path:
        return self.dir / f"worker-{name}"

    def _spawn(self, name: str, args, env) -> subprocess.Popen:
        ready = self.dir / f"{name}.ready"
        ready.unlink(missing_ok=True)
        with open(self.dir / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen([*map(str, args), "--ready-file", str(ready)], stdout=log, stderr=log, env={**self.env, **env})
        return self.processes[name]

    def _await_ready(self, name: str, timeout: float) -> dict:
        ready, process = self.dir / f"{name}.ready", self.processes[name]

        def is_ready():
            if process.poll() is not None:
                raise ProcessEnded(name, process.returncode, (self.dir / f"{name}.log").read_text(errors="replace")[-2000:])
            return ready.exists() and json.loads(ready.read_text() or "null")

        return quick_wait(f"{name} is ready", is_ready, timeout)

    def kill(self, name: str) -> None:
        """SIGKILL to a process that must still live."""
        assert self.alive(name), f"{name} ended by itself with {self.processes[name].returncode}"
        super().kill(name)

    def alive(self, name: str) -> bool:
        return name in self.processes and self.processes[name].poll() is None

    def kill_if_alive(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait(10)

    def trainers(self) -> dict[int, int]:
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, KeyError):
                if str(self.dir).encode() not in (entry / "cmdline").read_bytes() or (entry / "exe").resolve().name != self.trainer_name:
                    continue
                environment = dict(v.split(b"=", 1) for v in (entry / "environ").read_bytes().split(b"\0") if b"=" in v)
                found[int(entry.name)] = int(environment[b"RANK"])
        return found

    def create(self, text: str, **fields):
        return self.api.call("JobService/CreateJob", wait=True, spec_yaml=text, **fields).job

    def get(self, name: str):
        return self.api.call("JobService/GetJob", wait=True, name=name)


class ProcessEnded(AssertionError):
    def __init__(self, name, code, log):
        super().__init__(f"{name} ended with {code} before it was ready:\n{log}")
        self.code, self.log = code, log


def quick_wait(what: str, condition, timeout: float = 30, every: float = 0.005):
    """wait_for in smaller steps: many short waits make a test of this kind."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {timeout:.0f} s waiting until {what}")
        pause.wait(every)


def pause(seconds: float) -> None:
    """A fault's duration or its random moment: what the test is about, never a wait for something to happen."""
    threading.Event().wait(seconds)


def need_tools(*names: str) -> None:
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise Skip(f"needs {', '.join(missing)} (scripts/packages-test.txt)")


def need_root(what: str) -> None:
    if os.geteuid() != 0:
        raise Skip(f"needs root for {what}")


def in_own_namespaces(*flags: str) -> None:
    """Runs this program again with its own mounts (and what `flags` of unshare(1) say): nothing outlives it."""
    if os.environ.get("P2_CHAOS_NAMESPACES"):
        return
    need_root("mounts of its own")
    need_tools("unshare")
    test = subprocess.run(["unshare", "--mount", *flags, "true"], capture_output=True, text=True)
    if test.returncode != 0:
        raise Skip(f"unshare --mount {' '.join(flags)} is refused: {test.stderr.strip()}")
    os.execvpe("unshare", ["unshare", "--mount", *flags, "--propagation", "private", sys.executable, *sys.argv],
               {**os.environ, "P2_CHAOS_NAMESPACES": "1"})


class LoopDisk:
    """An ext4 in a file, whose power can be cut: what was not flushed is gone, as a disk without a battery loses it."""

    EXT4_IOC_SHUTDOWN = 0x8004587D
    NO_LOG_FLUSH = 2

    def __init__(self, image: pathlib.Path, mount: pathlib.Path, megabytes: int):
        need_tools("mkfs.ext4", "mount", "umount")
        self.image, self.mount_point = image, mount
        mount.mkdir(parents=True, exist_ok=True)
        with open(image, "wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard", str(image)], check=True)
        result = subprocess.run(["mount", "-o", "loop", str(image), str(mount)], capture_output=True, text=True)
        if result.returncode != 0:
            raise Skip(f"no loop device can be mounted: {result.stderr.strip()}")

    def cut(self) -> None:
        fd = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, self.EXT4_IOC_SHUTDOWN, struct.pack("I", self.NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def restore(self) -> None:
        """After every process that used it was killed; one may still be closing its files."""
        quick_wait("the disk is free", lambda: subprocess.run(["umount", str(self.mount_point)], capture_output=True).returncode == 0, 10, every=0.02)
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.mount_point)], check=True)

    def close(self) -> None:
        subprocess.run(["umount", str(self.mount_point)], check=False)
        self.image.unlink(missing_ok=True)
