"""T2: power cuts. Loop-mounted ext4 is shut down without flushing its journal, then mounted again. Negative controls leave
the syncs out and must lose."""
import os
import subprocess

from checker import Judgement, check_checkpoints, check_metrics, settle
from clients import Load
from t1_kill import finish
from world import FAULT_IO, STUB, ChaosCluster, LoopDisk, ProcessEnded, Run, in_own_namespaces, pause, quick_wait, spec

DISK_MB = 400  # Room for the ballast.


class DatabaseOnDisk(ChaosCluster):
    """p2d's data directory lies on a disk that loses its power; workers and roots are another machine's."""

    def __init__(self, **options):
        super().__init__(**options)
        self.disk = LoopDisk(self.dir / "disk.img", self.dir / "disk", DISK_MB)
        self.d_data = self.dir / "disk" / "data"

    def cut(self):
        assert self.alive("p2d"), f"p2d ended by itself with {self.processes['p2d'].returncode}"
        self.disk.cut()
        self.kill_if_alive("p2d")
        self.disk.restore()

    def __exit__(self, kind, *rest):
        if "p2d" in self.processes:
            self.end("p2d")
        self.disk.close()
        super().__exit__(kind, *rest)


class RootOnDisk(ChaosCluster):
    """The storage root lies on one."""

    def __init__(self, **options):
        super().__init__(**options)
        self.disk = LoopDisk(self.dir / "disk.img", self.dir / "disk", 64)
        self.root = self.dir / "disk" / "root"

    def __enter__(self):
        super().__enter__()
        subprocess.run(["sync", "-f", str(self.root)], check=True)  # The root and its dataset are old.
        return self

    def cut(self):
        self.disk.cut()
        for name in self.names:
            self.kill_if_alive(name)
        for pid in self.trainers():
            os.kill(pid, 9)
        quick_wait("its trainers end", lambda: not self.trainers())
        self.disk.restore()

    def __exit__(self, kind, *rest):
        for name in self.names:
            if name in self.processes:
                self.end(name)
        self.disk.close()
        super().__exit__(kind, *rest)


def submits_survive(r: Run):
    cuts = r.volume(30, 1000)
    dice = r.dice("cuts")
    with DatabaseOnDisk(workers=1, slots=2) as p2:
        with Load(r, p2.env["P2_ADDR"], think=0.1) as load:
            for _ in range(cuts):
                pause(dice.uniform(0.05, 0.25))
                p2.cut()
                p2.start_p2d()
            judge = finish(p2, load)
        r.note(n=cuts, cuts=cuts, **judge.counts)
        judge.conclude()


def submits_lost_without_sync(r: Run) -> float:
    """The share of cuts that lose acknowledged submits when p2d's syncs do nothing."""
    lost, cuts = 0, r.volume(4, 40)
    for i in range(cuts):
        with DatabaseOnDisk(workers=1, slots=1) as p2:
            p2.end("p2d")
            p2.start_p2d({"LD_PRELOAD": str(FAULT_IO), "P2_FAULT_NO_SYNC": "all", "P2_FAULT_PREFIX": str(p2.dir / "disk")})
            names = [p2.create(spec(), paused=True).name for _ in range(5)]
            p2.cut()
            try:
                p2.start_p2d()
                there = {job.name for job in p2.api.pages("JobService/ListJobs", "jobs")}
                lost += not set(names) <= there
            except ProcessEnded:  # It refuses what the cut left.
                lost += 1
    r.note(control_no_sync=f"{lost}/{cuts}")
    return lost / cuts


def committed(p2, job: str) -> list:
    return [c for c in p2.api.pages("CheckpointService/ListCheckpoints", "checkpoints", parent=job) if c.state == 2]


def checkpoints_survive(r: Run):
    cuts = r.volume(12, 500)
    dice = r.dice("checkpoints")
    judge = Judgement()
    with RootOnDisk(workers=1, slots=1) as p2:
        job = p2.create(spec(images=1 << 30, checkpoint=80, seed=11)).name
        for _ in range(cuts):
            before = max((c.images_seen for c in committed(p2, job)), default=0)
            quick_wait("a checkpoint is committed", lambda: max((c.images_seen for c in committed(p2, job)), default=0) > before)
            pause(dice.uniform(0, 0.05))
            p2.cut()
            check_checkpoints(judge, p2.api, {job: p2.get(job)}, p2.root)
            p2.start_worker("w0")
        p2.api.call("JobService/StopJob", wait=True, name=job, request_id="stop")
        settle(p2)
        check_metrics(judge, p2.api, {job: p2.get(job)}, {"CANCELLED"})
        r.note(checkpoint_cuts=cuts, committed_checked=judge.counts["checkpoints"])
        r.figures["n"] += cuts
        judge.conclude()


def checkpoints_lost_without_directory_sync(r: Run) -> float:
    lost, cuts = 0, r.volume(6, 60)
    with RootOnDisk(workers=0, slots=1) as p2:
        wrapper = p2.dir / "trainer-without-sync"
        wrapper.write_text(f'#!/bin/sh\nexec env LD_PRELOAD={FAULT_IO} P2_FAULT_NO_SYNC=dirs P2_FAULT_PREFIX={p2.dir / "disk"} {STUB} "$@"\n')
        wrapper.chmod(0o755)
        p2.names, p2.trainer = ["w0"], wrapper
        for _ in range(cuts):
            p2.start_worker("w0")
            p2.await_workers()
            job = p2.create(spec(images=80, checkpoint=80)).name
            newest = quick_wait("its checkpoint is committed", lambda: committed(p2, job))[0]
            p2.cut()
            lost += not (p2.root / newest.path / "manifest.json").exists()
    r.note(control_no_directory_sync=f"{lost}/{cuts}")
    return lost / cuts


def run(r: Run):
    in_own_namespaces()
    submits_survive(r)
    checkpoints_survive(r)
    for share in (submits_lost_without_sync(r), checkpoints_lost_without_directory_sync(r)):
        assert share >= 0.9, f"a negative control lost in {share:.0%} of its cuts only: this test would not see a missing sync"
