#!/usr/bin/env python3
"""Twenty SIGKILLs of trainers at random moments, under the real service, on one, two and four ranks: every run ends in the bits of the
uninterrupted one (model, EMA, optimizer).

The moments are random but seeded: P2_TEST_SEED=N repeats a run's choices (not what the machine did at those moments).
"""
import contextlib
import os
import random
import signal
import threading
import unittest

from p2_cluster import Cluster, tiny_spec, wait_for

IMAGES, CHECKPOINT = 1536, 64
LAST = IMAGES // 2  # No kill is aimed behind it: the run must not end before its last kill.
KILLS = {1: 7, 2: 7, 4: 6}
SEED = int(os.environ.get("P2_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)


def spec(ranks: int) -> str:
    text = tiny_spec(images=IMAGES, checkpoint=CHECKPOINT, devices=ranks, budget=50)
    return text.replace("backoff_initial: 100ms, backoff_max: 1s", "backoff_initial: 10ms, backoff_max: 10ms")


class KillTest(unittest.TestCase):
    def check(self, ranks: int) -> None:
        dice = random.Random(f"{SEED}/{ranks}")
        pause = threading.Event()
        with Cluster(slots=ranks) as p2:
            whole = p2.submit(spec(ranks))
            p2.wait_state(whole, "SUCCEEDED")
            expected = p2.final_digests(whole)
            self.assertEqual(sorted(name.split("_")[0].split(".")[0] for name in expected), ["ema", "model", "optimizer"])

            job = p2.submit(spec(ranks))
            gone, killed = set(), []
            for number in range(KILLS[ranks]):
                # One range of images a kill, so that they fall all over the run. Every kill meets a new gang: while it starts, if the one
                # before it came that far, else while it trains.
                at = (number * LAST + dice.randrange(LAST)) // KILLS[ranks]
                rank, delay = dice.randrange(ranks), dice.random() * 0.15

                def gang():
                    alive = {r: pid for pid, r in p2.trainers().items() if pid not in gone}
                    saved = [int(c.name.split("-")[0]) for c in p2.checkpoint_dir(job).glob("0*")] or [0]
                    return len(alive) == ranks and max(saved) >= at // CHECKPOINT * CHECKPOINT and (alive, max(saved))

                pids, saved = wait_for(f"kill {number} can happen at {at} images", gang)
                gone.update(pids.values())
                pause.wait(delay)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pids[rank], signal.SIGKILL)
                    killed.append((rank, saved))
            done = p2.wait_state(job, "SUCCEEDED")
            print(f"{ranks} ranks, P2_TEST_SEED={SEED}: killed (rank, newest checkpoint) {killed}")
            self.assertEqual(len(killed), KILLS[ranks])
            self.assertEqual([a["reason"] for a in done["attempts"]], ["RANK_DIED"] * KILLS[ranks] + ["COMPLETED"])
            self.assertEqual(p2.final_digests(job), expected)

    def test_one_rank(self):
        self.check(1)

    def test_two_ranks(self):
        self.check(2)

    def test_four_ranks(self):
        self.check(4)


if __name__ == "__main__":
    unittest.main(verbosity=2)
