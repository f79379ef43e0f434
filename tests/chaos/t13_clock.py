"""T13: the wall clock jumps by up to a day, both ways, or stands still, under p2d and its workers; nothing is decided by it."""
import os
import signal
import struct
import time

from api import state_name
from checker import Judgement, check_epochs, check_metrics, check_orphans, settle
from world import FAULT_IO, ChaosCluster, Run, pause, quick_wait, spec

HOUR = 3600 * 10**9


class Clock:
    """What fault_io.c reads: how far ahead the wall clock of its processes is."""

    def __init__(self, path):
        self.path = path
        path.write_bytes(bytes(8))

    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(FAULT_IO), "P2_FAULT_CLOCK": str(self.path)}

    def jump(self, ns: int):
        (offset,) = struct.unpack("q", self.path.read_bytes())
        self.set(offset + ns)

    def set(self, offset: int):
        with open(self.path, "r+b") as file:
            file.write(struct.pack("q", offset))

    def freeze(self, seconds: float):
        (start,) = struct.unpack("q", self.path.read_bytes())
        begin = time.monotonic_ns()
        while time.monotonic_ns() - begin < seconds * 1e9:
            self.set(start - (time.monotonic_ns() - begin))
            pause(0.001)


def run(r: Run):
    dice = r.dice("jumps")
    jumps = r.volume(10, 200)
    judge = Judgement()
    slowest = 0.0
    with ChaosCluster(workers=2, slots=2) as p2:
        clock = Clock(p2.dir / "clock")
        for name in p2.names:
            p2.end(name)
        p2.end("p2d")
        p2.start_p2d(clock.env())
        for name in p2.names:
            p2.start_worker(name, clock.env())
        steady = p2.create(spec(images=1 << 30, checkpoint=2000, seed=1)).name
        quick_wait("it trains", lambda: p2.get(steady).progress.images_seen > 0)
        for i in range(jumps):
            kind = dice.choice(["jump", "jump", "jump", "freeze"])
            if kind == "freeze":
                clock.freeze(0.5)
            else:
                clock.jump(dice.choice([-24, -1, 1, 24]) * HOUR)
            begin = time.monotonic()
            # A job queues, starts, loses its trainer, waits for its backoff, starts again and ends: all by timers.
            name = p2.create(spec(images=800, checkpoint=400, seed=100 + i)).name
            before = set(p2.trainers())
            quick_wait("it trains", lambda: p2.get(name).progress.images_seen > 0 or state_name(p2.get(name)) == "SUCCEEDED", 10)
            for pid in set(p2.trainers()) - before:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            quick_wait("it ends", lambda: state_name(p2.get(name)) == "SUCCEEDED", 10)
            slowest = max(slowest, time.monotonic() - begin)
        judge.that(len(p2.get(steady).attempts) == 1, f"{steady} was restarted")
        events = p2.api.pages("EventService/ListEvents", "events")
        for event in events:
            judge.that(event.reason not in ("WORKER_SUSPECT", "WORKER_LOST"), f"{event.resource} {event.reason}: {event.message}")
        # Silence is still noticed right behind a jump backwards.
        clock.jump(-24 * HOUR)
        p2.kill("w1")
        quick_wait("the lost worker is noticed", lambda: any(e.reason == "WORKER_LOST" for e in p2.api.pages("EventService/ListEvents", "events")), 5)
        p2.api.call("JobService/StopJob", wait=True, name=steady, request_id="stop")
        settle(p2)
        jobs = {job.name: job for job in p2.api.pages("JobService/ListJobs", "jobs")}
        check_epochs(judge, jobs)
        check_metrics(judge, p2.api, jobs, {"CANCELLED", "SUCCEEDED"})
        check_orphans(judge, p2)
        for name in ("p2d", "w0"):  # Their SIGTERM, too, may wait for gRPC's timers.
            p2.kill(name)
        r.note(n=jumps + 1, jumps=jumps + 1, slowest_job_s=round(slowest, 2), **judge.counts)
        judge.conclude()
