"""T8: kills of the real trainer and of p2d over one run; it ends in the bits of the uninterrupted one."""
import contextlib
import os
import signal

from api import state_name
from checker import settle
from t7_damage import digests
from world import ChaosCluster, Run, pause, quick_wait
from p2_cluster import tiny_spec

CHECKPOINT = 64


def final(p2, job) -> dict[str, str]:
    return digests(p2.root / "jobs" / job.name.removeprefix("jobs/") / "checkpoints" / job.latest_checkpoint.split("/")[-1])


def losses(p2, job) -> list:
    series = p2.api.call("MetricService/QueryMetrics", wait=True, job=job.name, metrics=["loss"], max_points=1000).series
    return [(p.images_seen, p.value) for s in series for p in s.points]


def run(r: Run):
    dice = r.dice("kills")
    kills, of_p2d = r.volume(6, 200), r.volume(2, 20)
    images = max(1024, 128 * (kills + of_p2d))
    text = tiny_spec(images=images, checkpoint=CHECKPOINT, devices=2, budget=1000).replace(
        "backoff_initial: 100ms, backoff_max: 1s", "backoff_initial: 10ms, backoff_max: 10ms")
    with ChaosCluster(workers=1, slots=2, real=True) as p2:
        whole = p2.create(text).name
        settle(p2, 600)
        expected = final(p2, p2.get(whole)), losses(p2, p2.get(whole))
        job = p2.create(text).name
        faults = ["trainer"] * kills + ["p2d"] * of_p2d
        dice.shuffle(faults)
        last, gone = images * 3 // 4, set()
        for i, fault in enumerate(faults):
            at = (i * last + dice.randrange(last)) // len(faults)

            def far_enough():
                saved = [int(c.name.split("-")[0]) for c in (p2.root / job / "checkpoints").glob("0*")] or [0]
                alive = {pid for pid in p2.trainers() if pid not in gone}
                return len(alive) == 2 and max(saved) >= at // CHECKPOINT * CHECKPOINT and alive

            alive = quick_wait(f"fault {i} can happen at {at} images", far_enough, 120, every=0.02)
            pause(dice.uniform(0, 0.15))
            if fault == "p2d":
                p2.kill("p2d")
                p2.start_p2d()
            else:
                gone |= alive
                with contextlib.suppress(ProcessLookupError):
                    os.kill(dice.choice(sorted(alive)), signal.SIGKILL)
        quick_wait("it ends", lambda: state_name(p2.get(job)) in ("SUCCEEDED", "FAILED"), 600, every=0.1)
        done = p2.get(job)
        assert state_name(done) == "SUCCEEDED", done.message
        assert (final(p2, done), losses(p2, done)) == expected, "other bits than the uninterrupted run"
        r.note(n=kills + of_p2d, trainer_kills=kills, p2d_kills=of_p2d, attempts=len(done.attempts), images=images)
