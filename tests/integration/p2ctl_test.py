#!/usr/bin/env python3
"""p2ctl with real daemons: `local`, the live line in a terminal, logs over a restart of p2d."""
import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

from p2_cluster import BIN, Cluster, make_images, tiny_spec, wait_for

ADVANCED = ("--ready-timeout", "30s", "--worker-stop-timeout", "40s", "--server-stop-timeout", "10s", "--well-after", "3s")


def processes_of(directory: pathlib.Path) -> list[str]:
    """Command lines of the processes that live and name `directory`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(directory).encode() in (command := (entry / "cmdline").read_bytes()):
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


class LocalTest(unittest.TestCase):
    """The binaries and the data lie in directories with a space in their names."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="p2 local-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.bin, self.data = self.dir / "its bin", self.dir / "its data"
        self.bin.mkdir()
        for program in ("p2ctl", "p2d", "p2-worker", "p2-trainer"):
            shutil.copy2(BIN / program, self.bin)
        self.env = dict(os.environ, XDG_STATE_HOME=str(self.dir / "state"), NO_COLOR="1")
        for name in ("P2_ADDR", "P2_OUTPUT"):
            self.env.pop(name, None)

    def command(self, *args) -> list[str]:
        return [str(self.bin / "p2ctl"), *map(str, args)]

    def local(self, *args) -> list[str]:
        return self.command("local", "--data-dir", self.data, "--devices", "cpu:2", "--listen", "0", "--http", "0", *ADVANCED, *args)

    def p2ctl(self, *args, code: int = 0) -> str:
        result = subprocess.run(self.command(*args), env=self.env, capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        return result.stdout

    @contextlib.contextmanager
    def running(self):
        """`p2ctl local` that is ready, in a session of its own as a shell's job is."""
        process = subprocess.Popen(self.local(), env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            ready = process.stdout.readline()
            if "p2 is ready at 127.0.0.1:" not in ready:
                process.terminate()
                self.fail(ready + process.stderr.read())
            yield process
        finally:
            if process.poll() is None:
                process.kill()  # Its daemons get SIGTERM then.
            process.communicate(timeout=60)
            wait_for("no process is left", lambda: not processes_of(self.dir))

    def submit(self, images: int) -> str:
        make_images(self.dir / "images")
        self.p2ctl("dataset", "prepare", self.dir / "images", "dots", "--resolution", 16, "--channels", 1, "--root", "local")
        spec = self.dir / "tiny spec.yaml"
        spec.write_text(tiny_spec(images=images))
        return self.p2ctl("submit", "-f", spec, "-o", "name").strip()

    def seen(self, job: str) -> int:
        return int(json.loads(self.p2ctl("get", job, "-o", "json"))["progress"]["imagesSeen"])

    def test_ctrl_c_checkpoints_and_leaves_no_process_and_the_next_start_goes_on(self):
        with self.running() as local:
            job = self.submit(images=100_000)
            wait_for("it trains", lambda: self.seen(job) >= 64)
            os.killpg(local.pid, signal.SIGINT)  # As a terminal does it.
            out, err = local.communicate(timeout=60)
            self.assertEqual(local.returncode, 130, err)
            self.assertIn(f"stopped; these jobs go on at the next start: {job}", err)
            self.assertEqual(processes_of(self.dir), [])
            self.assertFalse((self.dir / "state/p2/local.json").exists())
        with self.running():
            checkpoint = json.loads(self.p2ctl("ckpt", "list", job, "-o", "json"))["items"][0]
            self.assertGreaterEqual(int(checkpoint["imagesSeen"]), 64)
            wait_for("it goes on", lambda: self.seen(job) > int(checkpoint["imagesSeen"]))
            self.p2ctl("kill", job)

    def test_a_second_one_is_refused(self):
        with self.running() as local:
            again = subprocess.run(self.local(), env=self.env, capture_output=True, text=True, timeout=60)
            self.assertEqual(again.returncode, 6, again.stderr)
            self.assertIn(f"another p2ctl local runs (pid {local.pid}", again.stderr)
            # With a state of its own, or of another person: the directory itself is held.
            env = dict(self.env, XDG_STATE_HOME=str(self.dir / "other state"))
            other = subprocess.run(self.local(), env=env, capture_output=True, text=True, timeout=60)
            self.assertEqual(other.returncode, 6, other.stderr)
            self.assertIn(f"another p2ctl local uses {self.data}; stop it first", other.stderr)
            self.assertIn("p2d", self.p2ctl("version"))  # The first is as well as before.


class Terminal:
    """A program whose two ends are a terminal of 80 columns."""

    def __init__(self, args, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            os.execvpe(args[0], args, dict(env, TERM="xterm"))
        self.text = ""

    def read_until(self, what: str, condition, timeout: float = 60):
        deadline = time.monotonic() + timeout
        while True:
            if found := condition(self.text):
                return found
            if not select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"no {what} within {timeout:.0f} s:\n{self.text[-2000:]}")
            try:
                self.text += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:  # The other end is closed.
                raise AssertionError(f"ended without {what}:\n{self.text[-2000:]}") from None

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self) -> int:
        """Its exit code, with all it wrote in `text`."""
        with contextlib.suppress(OSError):
            while data := os.read(self.fd, 65536):
                self.text += data.decode(errors="replace")
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class TerminalTest(unittest.TestCase):
    # The job's ID is left out where 80 columns have no room for it.
    LINE = re.compile(r"(tiny-\w+ )?RUNNING \[[█▏▎▍▌▋▊▉ ]{8,}\] +\d+% [\d,.k]+/[\d,.k]+( images)? [\d,.k]+( images)?/s loss [\d.e-]+ [▁▂▃▄▅▆▇█]{2,} ETA \w+")

    @classmethod
    def setUpClass(cls):
        cls.p2 = cls.enterClassContext(Cluster())

    def terminal(self, *args) -> Terminal:
        return Terminal([str(BIN / "p2ctl"), *map(str, args)], self.p2.env)

    def test_follow_draws_a_live_line_and_ctrl_c_detaches(self):
        spec = self.p2.dir / "spec.yaml"
        spec.write_text(tiny_spec(images=200_000))
        terminal = self.terminal("submit", "-f", spec, "--follow")

        def drawn(text: str) -> list[str]:
            return [line.removesuffix("\x1b[K") for line in re.split(r"[\r\n]+", text) if line.endswith("\x1b[K")]

        terminal.read_until("live line", lambda text: [line for line in drawn(text) if self.LINE.fullmatch(line)])
        self.assertLessEqual(max(map(len, drawn(terminal.text))), 79)
        terminal.write("\x03")
        self.assertEqual(terminal.wait(), 130, terminal.text)
        job = re.match(r"tiny-\w+", terminal.text).group()
        # The line is gone; what is left says that nothing was cancelled.
        self.assertRegex(terminal.text, rf"\r\x1b\[Kdetached: {job} goes on\r\n  `p2ctl wait {job}` watches it again\r\n")
        seen = int(self.p2.job(job)["progress"]["imagesSeen"])
        self.assertEqual(self.p2.wait_images(job, seen + 64)["state"], "RUNNING")
        self.p2.p2ctl("kill", job)

    def test_kill_by_selector_asks_and_no_is_no(self):
        jobs = [self.p2.submit(tiny_spec(), "--paused", "--label", "sweep=a") for _ in range(2)]
        ask = "kill 2 jobs: "
        for answer, code, state in (("n\n", 1, "PAUSED"), ("\x04", 1, "PAUSED"), ("y\n", 0, "CANCELLED")):
            terminal = self.terminal("kill", "-l", "sweep=a")
            terminal.read_until("question", lambda text: ask in text and "[y/N] " in text)
            terminal.write(answer)
            self.assertEqual(terminal.wait(), code, terminal.text)
            self.assertEqual({self.p2.wait_state(job, state)["state"] for job in jobs}, {state})
            self.assertEqual("nothing was changed" in terminal.text, code == 1)
        terminal = self.terminal("delete", "-l", "sweep=a", "--yes")
        self.assertEqual(terminal.wait(), 0, terminal.text)
        self.assertNotIn("[y/N]", terminal.text)

    def test_a_node_is_described_with_who_holds_it(self):
        self.p2.p2ctl("node", "cordon", "w0", "--reason", "new disk")
        self.addCleanup(self.p2.p2ctl, "node", "uncordon", "w0")
        text = self.p2.p2ctl("node", "describe", "w0")
        for told in ("Node:         w0", "State:        READY,CORDONED", "new disk", "Devices", "free", "Storage roots", "WORKER_CORDONED"):
            self.assertIn(told, text)
        told = self.p2.json("node", "describe", "w0")
        self.assertTrue(told["worker"]["cordoned"])
        self.assertIn("WORKER_CORDONED", [event["reason"] for event in told["events"]])
        job = self.p2.submit(tiny_spec(images=1_000_000))
        self.p2.p2ctl("node", "uncordon", "w0")
        self.p2.wait_state(job, "RUNNING")
        self.assertIn(job, self.p2.p2ctl("node", "describe", "w0"))
        self.p2.p2ctl("kill", job)
        missing = self.p2.run("node", "describe", "w9")
        self.assertEqual(missing.returncode, 3)
        self.assertIn('worker "w9" not found; there are w0', missing.stderr)

    def test_lists_and_help_fit_into_80_columns(self):
        self.p2.submit(tiny_spec(), "--paused", "--label", "fits=yes")
        for args in (("list",), ("events",), ("node", "list"), ("node", "describe", "w0"), ("preset", "list"), ("dataset", "list"), ("list", "-l", "fits=yes"), ("--help",),
                     ("submit", "--help"), ("local", "--help")):
            terminal = self.terminal(*args)
            self.assertEqual(terminal.wait(), 0, terminal.text)
            for line in terminal.text.replace("\r", "").split("\n"):
                self.assertLessEqual(len(re.sub(r"\x1b\[[\d;]*m", "", line)), 80, line)


class LogsTest(unittest.TestCase):
    def test_follow_goes_over_a_restart_of_p2d_without_a_lost_or_doubled_line(self):
        with Cluster() as p2:
            job = p2.submit(tiny_spec(images=4_096))
            follow = self.enterContext(subprocess.Popen([str(BIN / "p2ctl"), "logs", "-f", job, "-q", "-o", "jsonl"], env=p2.env,
                                                        stdout=subprocess.PIPE, text=True))
            lines = [follow.stdout.readline() for _ in range(8)]
            p2.kill("p2d")
            p2.start_p2d()
            lines += follow.stdout.readlines()
            self.assertEqual(follow.wait(60), 0)
            p2.wait_state(job, "SUCCEEDED")

            def by_rank(entries) -> dict[int, list[tuple]]:
                ranks: dict[int, list[tuple]] = {}
                for e in entries:
                    ranks.setdefault(e["rank"], []).append((e["attempt"], int(e["offset"]), e["line"]))
                return ranks

            followed = by_rank(map(json.loads, lines))
            whole = by_rank(map(json.loads, p2.p2ctl("logs", job, "-o", "jsonl").splitlines()))
            self.assertEqual(set(whole), {0, 1})
            self.assertGreater(len(whole[0]), 20)
            self.assertEqual(followed, whole)


if __name__ == "__main__":
    unittest.main(verbosity=2)
