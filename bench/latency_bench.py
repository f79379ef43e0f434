#!/usr/bin/env python3
"""How long people wait: submit -> first step, and SIGKILL of a trainer -> stepping again, with the real service.

  P2_BIN_DIR=build/release/bin python3 bench/latency_bench.py [RUNS]

Starts p2d and p2-worker (every option at its default, two CPU slots) on this machine, trains the preset mnist-demo on two ranks, and
prints one JSON object with every sample in seconds.
A step counts when p2d has heard of it, so the worker's heartbeat interval is in every number.
"""
import json
import os
import pathlib
import signal
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/integration"))
from p2_cluster import Cluster, wait_for  # noqa: E402


def seen(p2: Cluster, job: str) -> int:
    return int(p2.job(job).get("progress", {}).get("imagesSeen", 0))


def one_run(p2: Cluster) -> dict[str, float]:
    begin = time.monotonic()
    job = p2.p2ctl("submit", "mnist-demo", "--set", "training.images=10M", "--set", "checkpoint.every_images=640", "-o", "name").strip().removeprefix("jobs/")
    wait_for("the first step", lambda: seen(p2, job) > 0)
    first = time.monotonic() - begin
    wait_for("a checkpoint", lambda: p2.json("ckpt", "list", job)["items"])
    os.kill(next(pid for pid, rank in p2.trainers().items() if rank == 1), signal.SIGKILL)
    begin = time.monotonic()

    def steps_again():
        now = p2.job(job)
        return len(now["attempts"]) == 2 and int(now["progress"]["imagesSeen"]) > int(now["attempts"][1]["startImagesSeen"])

    wait_for("the second attempt steps", steps_again)
    again = time.monotonic() - begin
    p2.p2ctl("kill", job)
    p2.wait_state(job, "CANCELLED")
    wait_for("its trainers to end", lambda: not p2.trainers())
    return {"submit_to_first_step_s": first, "kill_to_stepping_s": again}


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with Cluster(defaults=True) as p2:
        p2.add_dataset("mnist")  # 48 drawn images stand for the digits: what is read is the same.
        one_run(p2)  # Warm: libraries in the page cache.
        samples = [one_run(p2) for _ in range(runs)]
    print(json.dumps({name: {"median": round(statistics.median(s[name] for s in samples), 2),
                             "max": round(max(s[name] for s in samples), 2),
                             "samples": [round(s[name], 2) for s in samples]} for name in samples[0]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
