"""A Slurm of one's own for tests: munged, slurmctld and two slurmd as processes of the test, in a directory of their own.

No service is installed or asked: Debian's programs come from .tools/slurm, where scripts/bootstrap unpacks them, or from an installation.
"""
import contextlib
import getpass
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

from p2_cluster import SOURCE, wait_for

UNPACKED = SOURCE / ".tools/slurm"
SYSTEM = pathlib.Path("/")
PROGRAMS = {"munged": "usr/sbin/munged", "slurmctld": "usr/sbin/slurmctld-wlm", "slurmd": "usr/sbin/slurmd-wlm", "slurmstepd": "usr/sbin/slurmstepd-wlm",
            "sbatch": "usr/bin/sbatch", "srun": "usr/bin/srun", "scontrol": "usr/bin/scontrol"}

CONF = """
ClusterName=p2test
SlurmctldHost=%(host)s(127.0.0.1)
SlurmctldPort=%(control_port)d
SlurmUser=%(user)s
SlurmdUser=%(user)s
AuthType=auth/munge
AuthInfo=socket=%(dir)s/munge.sock
CredType=cred/munge
PluginDir=%(plugins)s
StateSaveLocation=%(dir)s/state
SlurmctldPidFile=%(dir)s/slurmctld.pid
SlurmdPidFile=%(dir)s/slurmd-%%n.pid
SlurmdSpoolDir=%(dir)s/spool-%%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
KillWait=30
NodeName=n1 NodeHostname=%(host)s NodeAddr=127.0.0.1 Port=%(n1_port)d CPUs=%(cpus)d
NodeName=n2 NodeHostname=%(host)s NodeAddr=127.0.0.1 Port=%(n2_port)d CPUs=%(cpus)d
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def installation() -> pathlib.Path | None:
    return next((top for top in (UNPACKED, SYSTEM) if all((top / path).exists() for path in PROGRAMS.values())), None)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def command(pid: int) -> str:
    """Its command line; empty once it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def processes_with(**environment: str | None) -> dict[int, str]:
    """pid -> command of what lives with all of this in its environment; None: with any value."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                has = dict(pair.partition("=")[::2] for pair in (entry / "environ").read_text(errors="replace").split("\0"))
                if all(name in has and value in (None, has[name]) for name, value in environment.items()):
                    found[int(entry.name)] = command(int(entry.name))
    return found


def descendants(pid: int) -> list[int]:
    """`pid` and all below it that live."""
    children: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


class CannotRun(Exception):
    """Slurm's daemons do not come up on this machine; says why."""


class SlurmCluster:
    """Use as a context manager; nodes n1 and n2, each with the machine's CPUs. Everything it started is ended at the end."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="p2-slurm-"))
        self.dir.chmod(0o755)  # munged wants its socket to be found by everybody.
        self.top = installation()
        self.daemons: dict[str, subprocess.Popen] = {}
        self.env = dict(os.environ, SLURM_CONF=str(self.dir / "slurm.conf"))
        libraries = next((self.top / "usr/lib").glob("*/slurm-wlm"))
        if self.top == UNPACKED:
            self.env["PATH"] = f"{self.top}/usr/bin:{self.env['PATH']}"
            self.env["LD_LIBRARY_PATH"] = f"{libraries.parent}:{libraries}"
        control, n1, n2 = free_ports(3)
        self.conf = CONF % dict(host=socket.gethostname().split(".")[0], user=getpass.getuser(), dir=self.dir, plugins=libraries,
                                control_port=control, n1_port=n1, n2_port=n2, cpus=os.cpu_count())

    def __enter__(self):
        try:
            self.start()
        except AssertionError as error:
            why = f"{error}\n{self.logs()}"
            self.__exit__()
            raise CannotRun(why) from error
        return self

    def __exit__(self, *_):
        if "slurmctld" in self.daemons:
            self.end_jobs()
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in reversed(self.daemons.values()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)

    def end_jobs(self) -> None:
        """Of tests that failed: while Slurm's daemons live, its steps end by themselves once nothing is left in them."""
        self.run("scancel", "--user", getpass.getuser())
        for _ in range(2):
            with contextlib.suppress(AssertionError):
                return wait_for("no Slurm job is left", lambda: not self.run("squeue", "-h").stdout.strip(), 40)
            for pid in self.processes(SLURM_JOB_ID=None):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def processes(self, **environment: str | None) -> dict[int, str]:
        """Of its jobs, as processes_with."""
        return processes_with(SLURM_CONF=self.env["SLURM_CONF"], **environment)

    def logs(self) -> str:
        return "\n".join(f"--- {log.name} (its end)\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:])
                         for log in sorted(self.dir.glob("*.log")))

    def start(self) -> None:
        (self.dir / "state").mkdir(0o700)
        (self.dir / "slurm.conf").write_text(self.conf)
        key = self.dir / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(64))
        self.daemon("munged", "munged", "--foreground", "--num-threads=10", f"--socket={self.dir}/munge.sock", f"--key-file={key}",
                    f"--log-file={self.dir}/munged.log", f"--pid-file={self.dir}/munged.pid", f"--seed-file={self.dir}/munged.seed")
        wait_for("munged listens", lambda: self.alive() and (self.dir / "munge.sock").exists(), 20)
        self.daemon("slurmctld", "slurmctld", "-D", "-i")
        for node in ("n1", "n2"):
            self.start_node(node)
        self.wait_idle()

    def start_node(self, node: str) -> None:
        self.daemon(node, "slurmd", "-D", "-N", node, "-d", str(self.top / PROGRAMS["slurmstepd"]))

    def wait_idle(self) -> None:
        wait_for("both nodes are idle", lambda: self.alive() and self.run("sinfo", "-h", "-o", "%T %D").stdout.strip() == "idle 2", 30)

    def kill_node(self, node: str, job: str) -> None:
        """As if its power failed: slurmd, and the step of `job` there with all below it. Slurm is told, not left to notice."""
        there = set(self.processes(SLURM_JOB_ID=job, SLURMD_NODENAME=node))
        steps = [pid for pid in descendants(1) if "slurmstepd" in command(pid) and there & set(descendants(pid))]
        victims = [pid for step in steps for pid in descendants(step)]
        self.daemons[node].kill()
        self.daemons.pop(node).wait(10)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=killed")

    def revive_node(self, node: str) -> None:
        self.start_node(node)
        self.call("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.wait_idle()

    def daemon(self, name: str, program: str, *args: str) -> None:
        with open(self.dir / f"{name}.log", "ab") as log:
            self.daemons[name] = subprocess.Popen([self.top / PROGRAMS[program], *args], stdout=log, stderr=log, env=self.env)

    def alive(self) -> bool:
        ended = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
        assert not ended, f"ended at once: {ended}"
        return True

    def run(self, *args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        return subprocess.run([str(arg) for arg in args], env=self.env | (env or {}), capture_output=True, text=True, timeout=60)

    def call(self, *args: str, env: dict[str, str] | None = None) -> str:
        done = self.run(*args, env=env)
        assert done.returncode == 0, f"{args} exited {done.returncode}: {done.stderr}"
        return done.stdout.strip()

    def show(self, job: str) -> dict[str, str]:
        return dict(field.split("=", 1) for field in self.call("scontrol", "show", "job", job).split() if "=" in field)

    def wait_ended(self, job: str, state: str, timeout: float = 60) -> dict[str, str]:
        """What scontrol shows of the job once it is over and no process of it lives."""
        def ended():
            now = self.show(job)
            assert now["JobState"] in (state, "PENDING", "RUNNING", "COMPLETING"), f"Slurm job {job} is {now['JobState']}, not {state}"
            return now["JobState"] == state and not self.processes(SLURM_JOB_ID=job) and now

        try:
            return wait_for(f"Slurm job {job} is {state} without a process", ended, timeout)
        except AssertionError as error:
            left = self.processes(SLURM_JOB_ID=job)
            raise AssertionError(f"{error}; it is {self.show(job)['JobState']} with {left}") from error
