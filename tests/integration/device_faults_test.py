#!/usr/bin/env python3
"""Errors of GPUs, from a driver's library (fake_nvml.cc) to the cordon of their node."""
import os
import shutil
import unittest

from p2_cluster import Cluster, wait_for


class DeviceFaultsTest(unittest.TestCase):
    def node(self, p2: Cluster) -> dict:
        return next(iter(p2.json("node", "list")["items"]))

    def beats(self, p2: Cluster) -> None:
        """Waits until p2d, which may have just started, has taken two further heartbeats."""
        for _ in range(2):
            before = self.node(p2).get("lastHeartbeatTime")
            wait_for("a heartbeat", lambda: self.node(p2).get("lastHeartbeatTime") != before)

    def test_each_error_cordons_the_node_once(self):
        p2 = Cluster()
        nvml = p2.dir / "libnvidia-ml.so.1"
        shutil.copy(os.environ["P2_FAKE_NVML"], nvml)
        p2.worker_flags += ["--nvml-library", nvml]
        p2.devices = "cuda:0,1"

        def error(line: str) -> None:
            with open(p2.dir / "events", "a") as events:
                events.write(line + "\n")

        def cordoned(message: str) -> None:
            wait_for("the node is cordoned", lambda: self.node(p2).get("cordoned"))
            self.assertIn(message, self.node(p2)["cordonReason"])

        def uncordoned() -> None:
            self.beats(p2)
            self.assertFalse(self.node(p2).get("cordoned"))

        with p2:
            error("xid GPU-fake-1 79")
            cordoned("XID 79 on cuda:1 (GPU has fallen off the bus)")
            p2.p2ctl("node", "uncordon", "w0")
            uncordoned()
            error("xid GPU-fake-1 79")
            cordoned("XID 79 on cuda:1 (GPU has fallen off the bus; reported 2 times)")
            p2.p2ctl("node", "uncordon", "w0")
            p2.kill("p2d")
            p2.start_p2d()
            uncordoned()
            error("xid GPU-fake-1 79")
            cordoned("reported 3 times")


if __name__ == "__main__":
    unittest.main(verbosity=2)
