"""T3: p2d is dead or frozen for a while, and four jobs train on."""
import signal
import statistics
import time

from api import state_name
from checker import Judgement, check_checkpoints, check_commit_epochs, check_epochs, check_metrics, check_orphans, metric_rows, settle
from world import ChaosCluster, Run, pause, quick_wait, spec


def run(r: Run):
    dice = r.dice("absences")
    rounds, longest = r.volume(8, 100), r.volume(3, 30)
    judge = Judgement()
    with ChaosCluster(workers=2, slots=2) as p2:
        names = [p2.create(spec(images=1 << 30, checkpoint=2000, seed=i + 1)).name for i in range(4)]

        def running():
            return all(state_name(p2.get(n)) == "RUNNING" and p2.get(n).progress.images_seen > 0 for n in names)

        quick_wait("four jobs train", running)
        windows = []
        for i in range(rounds):
            pause(dice.uniform(0.2, 0.6))
            away = 0.1 * (longest / 0.1) ** dice.random()
            begin = time.time()
            if i % 2 == 0:
                p2.kill("p2d")
                pause(away)
                windows.append((begin, time.time()))
                p2.start_p2d()
            else:
                p2.signal("p2d", signal.SIGSTOP)
                pause(away)
                windows.append((begin, time.time()))
                p2.signal("p2d", signal.SIGCONT)
            seen = {n: p2.get(n).progress.images_seen for n in names}
            quick_wait("progress comes again", lambda: all(p2.get(n).progress.images_seen > seen[n] for n in names), 10)
        for n in names:
            p2.api.call("JobService/StopJob", wait=True, name=n, request_id=f"stop-{n}")
        settle(p2)
        jobs = {n: p2.get(n) for n in names}
        for job in jobs.values():
            judge.that(len(job.attempts) == 1, f"{job.name} was restarted: {len(job.attempts)} attempts")
        check_epochs(judge, jobs)
        check_commit_epochs(judge, p2.api.pages("EventService/ListEvents", "events"), jobs)
        check_metrics(judge, p2.api, jobs, {"CANCELLED"})
        check_checkpoints(judge, p2.api, jobs, p2.root)
        check_orphans(judge, p2)
        # Images a second while p2d was away, beside the rest. On a machine that others use it is told, not judged; that it
        # stands still is.
        inside, outside = [], []
        for job in jobs.values():
            rows = [(p.time.ToNanoseconds() / 1e9, p.images_seen) for p in metric_rows(p2.api, job)]
            for (t0, i0), (t1, i1) in zip(rows, rows[1:]):
                away = any(begin <= t0 and t1 <= end for begin, end in windows)
                (inside if away else outside).append((i1 - i0) / (t1 - t0))
        ratio = statistics.median(inside) / statistics.median(outside)
        judge.that(ratio > 0.8, f"while p2d is away training runs at {ratio:.0%} of its speed")
        r.note(n=rounds, absences=rounds, longest_s=longest, speed_while_away=round(ratio, 3), **judge.counts)
        judge.conclude()
