"""T4: trainers and workers are killed, frozen and asked to end in the middle of a gang's steps, and at every failpoint."""
import os
import signal
import time

from api import state_name
from checker import Judgement, check_checkpoints, check_commit_epochs, check_epochs, check_metrics, check_orphans, settle
from t1_kill import known_failpoints
from t7_damage import digests
from world import ChaosCluster, Run, pause, quick_wait, spec

IMAGES = 2400  # 300 steps.


def final_weights(p2, job) -> dict[str, str]:
    return digests(p2.root / "jobs" / job.name.removeprefix("jobs/") / "checkpoints" / job.latest_checkpoint.split("/")[-1])


def inflict(p2, dice, kind: str, name: str):
    """Takes one trainer or worker of the running job; returns when the job's other parts may have noticed."""
    if kind.startswith("trainer"):
        pids = sorted(p2.trainers())
        number = {"trainer killed": signal.SIGKILL, "trainer frozen": signal.SIGSTOP, "trainer asked": signal.SIGTERM}[kind]
        try:
            os.kill(dice.choice(pids), number)
        except (ProcessLookupError, IndexError):
            return
        return
    worker = dice.choice(sorted({rank.worker for rank in p2.get(name).attempts[-1].ranks})).removeprefix("workers/")
    if kind == "worker killed":
        p2.kill(worker)
        pause(dice.uniform(0, 0.5))
        p2.start_worker(worker)
    elif kind == "worker asked":
        p2.end(worker)
        p2.start_worker(worker)
    else:
        p2.signal(worker, signal.SIGSTOP)
        pause(dice.uniform(0.1, 3))
        p2.signal(worker, signal.SIGCONT)


def run(r: Run):
    dice = r.dice("gang")
    rounds = r.volume(12, 200)
    kinds = ["trainer killed", "trainer frozen", "trainer asked", "worker killed", "worker frozen", "worker asked"]
    judge = Judgement()
    slowest: dict[str, float] = {}
    with ChaosCluster(workers=3, slots=2) as p2:
        whole = p2.create(spec(images=IMAGES, checkpoint=400, devices=2, seed=3)).name
        settle(p2)
        expected = final_weights(p2, p2.get(whole))
        count = 0

        def one(what: str, fault, supervise=lambda name: None):
            nonlocal count
            count += 1
            name = p2.create(spec(images=IMAGES, checkpoint=400, devices=dice.choice([2, 3]), seed=3)).name
            fault(name)

            def ended():
                supervise(name)
                job = p2.get(name)
                assert state_name(job) != "FAILED", f"{what}: {job.message}"
                return state_name(job) == "SUCCEEDED" and job

            job = quick_wait(f"{name} succeeds after: {what}", ended, 40, every=0.02)
            judge.that(final_weights(p2, job) == expected, f"{what}: {name} ended in other weights")

        for i in range(rounds):
            kind = kinds[i % len(kinds)]

            def fault(name):
                quick_wait("it trains", lambda: p2.get(name).progress.images_seen > 0 or state_name(p2.get(name)) == "SUCCEEDED")
                pause(dice.uniform(0, 0.2))
                begin, before = time.monotonic(), len(p2.get(name).attempts)
                inflict(p2, dice, kind, name)
                if kind in ("trainer killed", "trainer frozen"):
                    quick_wait("it is noticed", lambda: len(p2.get(name).attempts) > before or p2.get(name).attempts[-1].outcome != 1, 15)
                    slowest[kind] = max(slowest.get(kind, 0), time.monotonic() - begin)

            one(kind, fault)
        names = [n for n in known_failpoints("p2-worker") if n.split(".")[0] in ("spool", "journal", "agent", "checkpoint") and n != "spool.before_drop"]
        for point in names * r.volume(1, 10):
            variable = "P2_TRAINER_FAILPOINTS" if point.startswith("checkpoint") else "P2_FAILPOINTS"
            worker = dice.choice(p2.names)
            p2.kill_if_alive(worker)
            p2.start_worker(worker, {variable: f"{point}=kill@{dice.randrange(1, 4)}"})

            mended = False

            def supervise(name):
                nonlocal mended
                if not p2.alive(worker):
                    assert p2.processes[worker].returncode == -9, f"{point}: p2-worker ended with {p2.processes[worker].returncode}"
                    p2.start_worker(worker)
                elif variable == "P2_TRAINER_FAILPOINTS" and not mended and len(p2.get(name).attempts) > 1:
                    # Every trainer that it starts would die there, and none might ever get further.
                    mended = True
                    p2.end(worker)
                    p2.start_worker(worker)

            one(f"SIGKILL at {point}", lambda name: None, supervise)
            if p2.alive(worker):
                p2.end(worker)
                p2.start_worker(worker)
        jobs = {job.name: job for job in p2.api.pages("JobService/ListJobs", "jobs")}
        check_epochs(judge, jobs)
        check_commit_epochs(judge, p2.api.pages("EventService/ListEvents", "events"), jobs)
        check_metrics(judge, p2.api, jobs)
        check_checkpoints(judge, p2.api, jobs, p2.root)
        check_orphans(judge, p2)
        r.note(n=count, faults=rounds, failpoints=count - rounds, slowest_noticed_s={k: round(v, 2) for k, v in slowest.items()}, **judge.counts)
        judge.conclude()
