"""T6: disks that fill up, fail a write or a sync, or take half of it, under p2d, p2-worker and the trainer."""
import collections
import contextlib
import errno
import os

import grpc

from api import state_name
from checker import Judgement, check_checkpoints, check_epochs, check_metrics, check_orphans, settle
from clients import Load
from t1_kill import finish, known_failpoints
from t2_power import committed
from world import FAULT_IO, ChaosCluster, LoopDisk, Run, Skip, in_own_namespaces, pause, quick_wait, spec

DISK_MB = 1500  # 5 % of it is more than the ballast, so that a p2d started on a full disk still refuses new jobs.
# What a p2d may end with when its disk fails: 70, or SIGABRT where RocksDB was built with assertions (RELIABILITY.md 0.3).
FAIL_STOP = {70, -6}


class DatabaseOnDisk(ChaosCluster):
    def __init__(self, **options):
        super().__init__(**options)
        self.disk = LoopDisk(self.dir / "disk.img", self.dir / "disk", DISK_MB)
        self.d_data = self.dir / "disk" / "data"
        self.filler = self.dir / "disk" / "filler"

    def fill(self, leave_mb: float):
        """Until so much is free."""
        with open(self.filler, "ab") as file:
            space = os.statvfs(self.dir / "disk")
            more = space.f_bavail * space.f_frsize - int(leave_mb * (1 << 20))
            os.posix_fallocate(file.fileno(), file.tell(), max(1, more))

    def fill_to_the_last_block(self):
        with contextlib.suppress(OSError):
            self.fill(0)
        with open(self.filler, "ab") as file, contextlib.suppress(OSError):
            while True:
                os.write(file.fileno(), b"x" * 4096)

    def __exit__(self, kind, *rest):
        if "p2d" in self.processes:
            self.end("p2d")
        self.disk.close()
        super().__exit__(kind, *rest)


def refused(p2) -> bool:
    try:
        p2.api.call("JobService/CreateJob", timeout=5, wait=True, spec_yaml=spec(), paused=True)
        return False
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error
        return True


def newest(p2, job: str) -> int:
    return max((c.images_seen for c in committed(p2, job)), default=0)


def full_disk(r: Run):
    rounds = r.volume(2, 30)
    stops = 0
    judge = Judgement()
    with DatabaseOnDisk(workers=1, slots=1) as p2:
        job = p2.create(spec(images=1 << 30, checkpoint=400, seed=5)).name
        kept = [p2.create(spec(seed=s), paused=True) for s in range(1, 6)]
        quick_wait("a checkpoint", lambda: newest(p2, job))
        for _ in range(rounds):
            # The watermark stops admissions; reads and what runs go on.
            p2.fill(leave_mb=40)
            quick_wait("admissions stop", lambda: refused(p2), 5, every=0.05)
            before = newest(p2, job)
            quick_wait("checkpoints are committed on", lambda: newest(p2, job) > before, 10)
            assert p2.get(kept[0].name).spec == kept[0].spec
            # Not one block is left: p2d may end, and its supervisor starts it again, on the ballast.
            p2.fill_to_the_last_block()
            pause(1.0)
            if not p2.alive("p2d"):
                assert p2.processes["p2d"].returncode in FAIL_STOP, p2.processes["p2d"].returncode
                stops += 1
            p2.kill_if_alive("p2d")
            p2.start_p2d()
            assert refused(p2), "a p2d started on a full disk takes new jobs"
            before = newest(p2, job)
            quick_wait("what runs is taken up again", lambda: newest(p2, job) > before, 10)
            p2.filler.unlink()
            quick_wait("admissions come back", lambda: not refused(p2), 5, every=0.05)
        for was in kept:
            judge.that(p2.get(was.name).spec == was.spec, f"{was.name} changed")
        judge.that(len(p2.get(job).attempts) == 1, f"the job was restarted: {len(p2.get(job).attempts)} attempts")
        p2.api.call("JobService/StopJob", wait=True, name=job, request_id="stop")
        settle(p2)
        check_metrics(judge, p2.api, {job: p2.get(job)}, {"CANCELLED"})
        r.note(full_disks=rounds, ended_on_full_disk=stops)
    judge.conclude()


def answers_within(p2, seconds: float) -> bool:
    """Or it has ended."""
    try:
        p2.api.call("JobService/ListJobs", timeout=seconds, page_size=1)
        return True
    except grpc.RpcError as error:
        return error.code() != grpc.StatusCode.DEADLINE_EXCEEDED


def failing_calls(r: Run):
    """The k-th write or sync of p2d fails, once or from then on, or takes half; and every failpoint fails."""
    dice = r.dice("calls")
    faults = []
    for _ in range(r.volume(30, 500)):
        kind = dice.choice(["WRITE", "WRITE", "SYNC", "SYNC", "SHORT"])
        stays = "" if kind == "SHORT" else dice.choice(["", "+"])
        number = dice.choice([errno.ENOSPC, errno.EIO])
        k = dice.randrange(1, 120 if kind != "SYNC" else 60)
        faults.append({f"P2_FAULT_{kind}": f"{k}{stays}", "P2_FAULT_ERRNO": str(number)})
    points = [name for name in known_failpoints("p2d") if name.split(".")[0] in ("blob", "store", "commits", "loop")]
    for name in points * r.volume(1, 10):
        faults.append({"P2_FAILPOINTS": f"{name}={dice.choice(['eio', 'enospc'])}@{dice.randrange(1, 4 if name[0] == 'b' else 15)}"})
    ends: collections.Counter = collections.Counter()
    with ChaosCluster(workers=2, slots=2) as p2:
        with Load(r, p2.env["P2_ADDR"], think=0.1) as load:
            for fault in faults:
                p2.kill("p2d")
                fault |= {"LD_PRELOAD": str(FAULT_IO), "P2_FAULT_PREFIX": f"{p2.d_data}/"} if "P2_FAILPOINTS" not in fault else {}
                process = p2.spawn_p2d(fault)
                try:
                    quick_wait("the fault", lambda: process.poll() is not None, 1.0)
                    assert process.returncode in FAIL_STOP, f"{fault}: ended with {process.returncode}"
                    ends[str(process.returncode)] += 1
                except AssertionError:
                    if process.poll() is not None and process.returncode not in FAIL_STOP:
                        raise
                    assert answers_within(p2, 5), f"{fault}: p2d hangs"
                    ends["lives"] += 1
                p2.kill_if_alive("p2d")
                p2.start_p2d()
            judge = finish(p2, load)
        r.note(n=len(faults), p2d_faults=len(faults), p2d_ended=dict(ends), **judge.counts)
        judge.conclude()


def failing_workers(r: Run):
    """Every failpoint of p2-worker and of the trainer's checkpoints fails; jobs end as if nothing had been."""
    dice = r.dice("workers")
    names = [name for name in known_failpoints("p2-worker") if name.split(".")[0] in ("spool", "journal", "agent", "checkpoint")]
    judge = Judgement()
    count = 0
    with ChaosCluster(workers=1, slots=2) as p2:
        for name in names * r.volume(1, 10):
            act = dice.choice(["eio", "enospc"])
            variable = "P2_TRAINER_FAILPOINTS" if name.startswith("checkpoint") else "P2_FAILPOINTS"
            p2.kill_if_alive("w0")
            p2.start_worker("w0", {variable: f"{name}={act}@{dice.randrange(1, 4)}"})
            job = p2.create(spec(images=400, checkpoint=80, devices=2, seed=count + 1)).name
            restarts = 0

            def ended():
                nonlocal restarts
                if not p2.alive("w0"):
                    assert p2.processes["w0"].returncode == 70, f"{name}={act}: p2-worker ended with {p2.processes['w0'].returncode}"
                    restarts += 1
                    p2.start_worker("w0")
                return state_name(p2.get(job)) == "SUCCEEDED"

            quick_wait(f"{job} ends in spite of {name}={act}", ended, 30, every=0.02)
            count += 1
        jobs = {job.name: job for job in p2.api.pages("JobService/ListJobs", "jobs")}
        check_epochs(judge, jobs)
        check_metrics(judge, p2.api, jobs)
        check_checkpoints(judge, p2.api, jobs, p2.root)
        check_orphans(judge, p2)
        r.note(worker_faults=count)
        r.figures["n"] += count
    judge.conclude()


def run(r: Run):
    without_disk = ""
    try:
        in_own_namespaces()
    except Skip as why:
        without_disk = str(why)
    failing_calls(r)
    failing_workers(r)
    if without_disk:
        r.note(full_disk=f"SKIP: {without_disk}")
    else:
        full_disk(r)
