"""T5: workers behind broken networks: cut off, heard but not hearing, hearing but not heard, flapping."""
import itertools
import subprocess
import time

from api import state_name
from checker import Judgement, check_checkpoints, check_commit_epochs, check_epochs, check_metrics, check_orphans, settle
from world import ChaosCluster, Run, Skip, in_own_namespaces, need_tools, pause, quick_wait, spec


def sh(*words: str) -> None:
    result = subprocess.run(words, capture_output=True, text=True)
    if result.returncode != 0:
        raise Skip(f"`{' '.join(words)}` fails: {result.stderr.strip()}")


class NetworkedCluster(ChaosCluster):
    """Every worker in a network namespace of its own, on a bridge with p2d."""

    def __init__(self, **options):
        need_tools("ip", "nsenter")
        super().__init__(**options)
        self.host = "10.77.0.1"
        self.d_flags += ["--insecure"]
        self.spaces: dict[str, subprocess.Popen] = {}
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "br0", "type", "bridge")
        sh("ip", "address", "add", f"{self.host}/24", "dev", "br0")
        sh("ip", "link", "set", "br0", "up")
        for i, name in enumerate(self.names):
            # Says when it is in its namespace, then waits for its stdin to end.
            space = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            space.stdout.readline()
            self.spaces[name] = space
            sh("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(space.pid))
            sh("ip", "link", "set", f"v-{name}", "master", "br0", "up")
            self.inside(name, "ip", "link", "set", "lo", "up")
            self.inside(name, "ip", "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            self.inside(name, "ip", "link", "set", "eth0", "up")

    def address(self, name: str) -> str:
        return f"10.77.0.{10 + self.names.index(name)}"

    def inside(self, name: str, *words: str) -> None:
        sh("nsenter", "--net", "-t", str(self.spaces[name].pid), *words)

    def start_worker(self, name: str = "w0", env=None, flags=(), prefix=()) -> None:
        super().start_worker(name, env, flags, prefix=["nsenter", "--net", "-t", str(self.spaces[name].pid)])

    def __exit__(self, kind, *rest):
        super().__exit__(kind, *rest)
        for space in self.spaces.values():
            space.stdin.close()
            space.wait(10)

    def partition(self, name: str, kind: str, seconds: float, dice) -> None:
        """Breaks the worker's network for so long, then mends it."""
        if kind == "cut off":
            sh("ip", "link", "set", f"v-{name}", "down")
            pause(seconds)
            sh("ip", "link", "set", f"v-{name}", "up")
        elif kind == "not heard":
            self.inside(name, "ip", "route", "add", "blackhole", f"{self.host}/32")
            pause(seconds)
            self.inside(name, "ip", "route", "del", "blackhole", f"{self.host}/32")
        elif kind == "not hearing":
            sh("ip", "route", "add", "blackhole", f"{self.address(name)}/32")
            pause(seconds)
            sh("ip", "route", "del", "blackhole", f"{self.address(name)}/32")
        else:
            end = time.monotonic() + seconds
            for state in itertools.cycle(["down", "up"]):
                sh("ip", "link", "set", f"v-{name}", state)
                pause(0.05)
                if state == "up" and time.monotonic() > end:
                    break


def run(r: Run):
    in_own_namespaces("--net")
    dice = r.dice("partitions")
    rounds = r.volume(12, 200)
    kinds = ["cut off", "not heard", "not hearing", "flapping"]
    judge = Judgement()
    slowest = 0.0
    with NetworkedCluster(workers=3, slots=2) as p2:
        names = [p2.create(spec(images=1 << 30, checkpoint=400, seed=i + 1)).name for i in range(4)]

        def all_train():
            return all(state_name(p2.get(n)) == "RUNNING" for n in names)

        quick_wait("all train", all_train)
        for i in range(rounds):
            pause(dice.uniform(0, 0.3))
            p2.partition(dice.choice(p2.names), kinds[i % len(kinds)], dice.uniform(0.1, 4), dice)
            mended = time.monotonic()
            quick_wait("every worker is back", lambda: all(w.state == 1 for w in p2.api.pages("ClusterService/ListWorkers", "workers")) and all_train(),
                       15, every=0.02)
            slowest = max(slowest, time.monotonic() - mended)
        for n in names:
            p2.api.call("JobService/StopJob", wait=True, name=n, request_id=f"stop-{n}")
        settle(p2)
        jobs = {n: p2.get(n) for n in names}
        check_epochs(judge, jobs)
        check_commit_epochs(judge, p2.api.pages("EventService/ListEvents", "events"), jobs)
        check_metrics(judge, p2.api, jobs, {"CANCELLED"})
        check_checkpoints(judge, p2.api, jobs, p2.root)
        check_orphans(judge, p2)
        r.note(n=rounds, partitions=rounds, attempts=sum(len(j.attempts) for j in jobs.values()), slowest_heal_s=round(slowest, 2), **judge.counts)
        judge.conclude()
