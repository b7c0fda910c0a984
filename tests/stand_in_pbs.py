"""Stand-in for the commands of PBS: qsub runs jobs on this machine, after those that they depend on."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = """\
#!{python} -S
import json, os, re, signal, subprocess, sys, time
from pathlib import Path

folder = Path(__file__).parent / "jobs"
command, words = Path(sys.argv[0]).name, sys.argv[1:]


def read(job, what):
    path = folder / f"{{job}}.{{what}}"
    return path.read_text() if path.exists() else None


def write(job, what, text=""):
    (folder / f".{{job}}.{{what}}").write_text(str(text))
    (folder / f".{{job}}.{{what}}").rename(folder / f"{{job}}.{{what}}")


def state(job):
    return "F" if read(job, "end") is not None else "Q" if read(job, "pid") is None else "R"


def run(job, script):
    after = re.search(r"^#PBS -W depend=afterany:(.*)$", Path(script).read_text(), re.MULTILINE)
    others = after[1].split(":") if after else []
    while (folder.parent / "busy").exists() or not all(state(one) == "F" for one in others):
        time.sleep(0.05)
    if state(job) == "Q":  # otherwise it was deleted
        environment = {{**os.environ, "PBS_JOBID": job, "PBS_JOBNAME": "array.sh"}}
        process = subprocess.Popen(["bash", script], env=environment, start_new_session=True)
        write(job, "pid", process.pid)
        process.wait()
        write(job, "end")


jobs = sorted(path.stem for path in folder.glob("*.script"))
if command == "qsub":
    job = f"{{1 + len(jobs)}}-server"
    write(job, "script", words[-1])
    output = open(folder / f"{{job}}.output", "w")
    subprocess.Popen(
        [sys.executable, "-S", folder.parent / "qrun", job, words[-1]],
        stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
    )
    if (folder.parent / "dies").exists():
        (folder.parent / "dies").unlink()
        os.kill(os.getppid(), signal.SIGKILL)
    print(job)
elif command == "qrun":
    run(*words)
elif command == "qstat":
    if (folder.parent / "silent").exists():
        sys.exit("qstat: cannot connect to server")
    listed = {{job: {{"job_state": state(job), "Submit_arguments": read(job, "script")}} for job in jobs}}
    print(json.dumps({{"Jobs": {{job: {{**one, "exec_host": "n1/0"}} for job, one in listed.items()}}}}))
elif command == "qdel":
    for job in words:
        if state(job) == "R":
            os.killpg(int(read(job, "pid")), signal.SIGTERM)
        else:
            write(job, "end")
"""


@dataclass(frozen=True)
class StandInPbs:
    """A folder with the programs, and what they know."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> StandInPbs:
        """Write the programs."""
        (folder / "jobs").mkdir(parents=True)
        for name in ("qsub", "qstat", "qdel", "qrun"):
            (folder / name).write_text(PROGRAM.format(python=sys.executable))
            (folder / name).chmod(0o755)
        return cls(folder)

    @property
    def path(self) -> str:
        """Return the search path of a process that finds the programs."""
        return os.pathsep.join([str(self.folder), os.environ["PATH"]])

    def scripts(self) -> list[str]:
        """Return the scripts of the jobs that were submitted, in their order."""
        files = sorted((self.folder / "jobs").glob("*.script"), key=lambda file: int(file.name.partition("-")[0]))
        return [file.read_text() for file in files]
