"""SLURM cluster whose only node is this machine. Requires Debian's slurm-wlm and munge, but no root."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
SBIN = ("/usr/sbin", "/sbin")

_CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control_port}
SlurmctldParameters={parameters}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=20
MinJobAge=3600
ReturnToService=2
JobRequeue=1
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=normal Nodes=localhost Default=YES DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=urgent Nodes=localhost DefaultTime=10 PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Return the programs of a cluster that are not installed."""
    path = os.pathsep.join([os.environ["PATH"], *SBIN])
    return ", ".join(name for name in PROGRAMS if shutil.which(name, path=path) is None)


needs_slurm = pytest.mark.skipif(bool(missing()), reason=f"SLURM is not installed: {missing()} (slurm-wlm, munge)")


@dataclass
class Cluster:
    """A cluster whose files are in a folder, which has a short path."""

    folder: Path
    cpus: int = 2
    parameters: str = "preempt_send_user_signal"
    """Of its controller; clusters differ in what they send a job that is preempted."""
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start it and wait until its node is idle."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        os.chmod(self.folder, 0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.conf.write_text(
            _CONF.format(
                host=socket.gethostname().split(".")[0],
                user=getpass.getuser(),
                folder=self.folder,
                control_port=_free_port(),
                node_port=_free_port(),
                cpus=self.cpus,
                parameters=self.parameters,
                memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10,
            )
        )
        files = {name: self.folder / f"munge.{name}" for name in ("socket", "log", "seed", "pid")}
        munge = [f"--{option}={files[name]}" for name, option in MUNGE_OPTIONS.items()]
        self._run("munged", "--foreground", "--force", f"--key-file={key}", *munge)
        _until(files["socket"].exists)
        self._run("slurmctld", "-D", "-f", str(self.conf))
        self._run("slurmd", "-D", "-f", str(self.conf), "-N", "localhost")
        _until(lambda: self.run_client("sinfo", "--noheader", "--format=%T", "--partition=normal").strip() == "idle")

    @property
    def conf(self) -> Path:
        """Return its configuration."""
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a process that uses it."""
        path = os.pathsep.join([os.environ["PATH"], *SBIN])
        return {"SLURM_CONF": str(self.conf), "PATH": path}

    def run_client(self, *words: str) -> str:
        """Return the output of one of its commands."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False).stdout

    def stop(self) -> None:
        """End its jobs and itself."""
        self.run_client("scancel", "--me")
        with suppress(AssertionError):
            _until(lambda: not self.run_client("squeue", "--noheader"))
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()

    def _run(self, *words: str) -> None:
        environment = {**os.environ, **self.environment}
        with (self.folder / f"{words[0]}.out").open("wb") as out:
            self._processes.append(subprocess.Popen(words, env=environment, stdout=out, stderr=out))


MUNGE_OPTIONS = {"socket": "socket", "log": "log-file", "seed": "seed-file", "pid": "pid-file"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _until(condition: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "SLURM did not come to this"
        time.sleep(0.1)
