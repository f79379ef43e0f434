"""T1: SIGKILL of p2d at random times and at every failpoint, under eight clients."""
import re
import subprocess
import tempfile

import grpc

from checker import caught_up, check_all, check_orphans, settle
from clients import Load, Op
from world import BIN, ChaosCluster, Run, pause, quick_wait


def known_failpoints(program: str) -> list[str]:
    """As the program itself lists them."""
    with tempfile.TemporaryDirectory() as directory:
        result = subprocess.run([str(BIN / program), "--enable-failpoints", "--data-dir", directory], capture_output=True, text=True,
                                env={"P2_FAILPOINTS": "?=kill"})
    assert result.returncode == 2, result.stderr
    return re.search(r"Names: (.*)", result.stderr)[1].split()


def kill_what_waits(p2, history) -> None:
    """So that the end comes soon; these cancels are acknowledged ones, too."""
    for job in p2.api.pages("JobService/ListJobs", "jobs", states=[1]):
        op = Op("kill", 0, f"end-{job.name}", job=job.name)
        try:
            op.answer = p2.api.call("JobService/KillJob", wait=True, name=job.name, request_id=op.request_id)
            op.outcome, op.tries = "ok", 2
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error  # It has ended meanwhile.
            op.outcome = "fail"
        history.add(op)


def finish(p2, load):
    """Clients stop, what runs ends, watchers catch up; the judgement."""
    load.stop_clients()
    kill_what_waits(p2, load.history)
    settle(p2)
    caught_up(p2, load.history)
    judge = check_all(p2, load.history)
    check_orphans(judge, p2)
    return judge


def run(r: Run):
    dice = r.dice("kills")
    kills, rounds = r.volume(50, 1000), r.volume(1, 20)
    points = [name for name in known_failpoints("p2d") if name.split(".")[0] in ("blob", "store", "commits", "loop")]
    reached = 0
    with ChaosCluster(workers=2, slots=2) as p2:
        with Load(r, p2.env["P2_ADDR"], think=0.1) as load:
            for _ in range(kills):
                pause(dice.uniform(0.05, 0.25))
                p2.kill("p2d")
                p2.start_p2d()
            for name in points * rounds:
                p2.kill("p2d")
                nth = dice.randrange(1, 4 if name.startswith("blob") else 20)
                process = p2.spawn_p2d({"P2_FAILPOINTS": f"{name}=kill@{nth}"})
                try:
                    quick_wait(f"failpoint {name}", lambda: process.poll() is not None, 10)
                    reached += 1
                except AssertionError:  # Bytes of an artifact may not have come in that time.
                    pass
                p2.kill_if_alive("p2d")
                p2.start_p2d()
            judge = finish(p2, load)
        assert reached >= 0.8 * len(points) * rounds, f"only {reached} of {len(points) * rounds} failpoints were reached"
        ready = sorted(p2.ready_seconds[1:])
        r.note(n=kills + reached, kills=kills, at_failpoints=reached, **judge.counts, ready_p99_s=round(ready[int(0.99 * (len(ready) - 1))], 3),
               ready_max_s=round(ready[-1], 3))
        judge.conclude()
