"""Fake SLURM commands: they keep a list of jobs, and can exit like a killed process."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = {
    "sbatch": """\
[ -e "$here/dies_before" ] && rm "$here/dies_before" && kill -9 $PPID && exit 1
[ -e "$here/refuses" ] && echo "sbatch: error: $(cat "$here/refuses")" >&2 && exit 1
number=$((100 + $(wc -l <"$here/jobs")))
echo "$number|${!#}" >>"$here/jobs"
[ -e "$here/dies_after" ] && rm "$here/dies_after" && kill -9 $PPID && exit 1
[ -e "$here/loses_its_answer" ] && echo "sbatch: error: Socket timed out" >&2 && exit 1
echo $number
""",
    "squeue": """\
[ -e "$here/silent" ] && exit 1
case "$*" in
*"%F|%o"*) cat "$here/jobs";;
*) while IFS="|" read -r number script; do
    last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
    for task in $(seq 0 "$last"); do echo "${number}_$task|PENDING||None|plan/version_1"; done
done <"$here/jobs";;
esac
""",
    "scancel": """\
[ -e "$here/forbids" ] && echo "scancel: error: Access/permission denied" >&2 && exit 1
echo "$*" >>"$here/cancelled"
""",
    "scontrol": """\
echo "MaxArraySize            = $(cat "$here/largest")"
""",
}


@dataclass(frozen=True)
class FakeSlurm:
    """A folder with the programs, and what they know."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> FakeSlurm:
        """Write the programs."""
        folder.mkdir()
        for name, text in PROGRAMS.items():
            program = folder / name
            program.write_text(f'#!/bin/bash\nhere=$(dirname "$0")\n{text}')
            program.chmod(0o755)
        (folder / "jobs").touch()
        (folder / "largest").write_text("1001")
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process that finds the programs."""
        return {"PATH": os.pathsep.join([str(self.folder), os.environ["PATH"]])}

    def set_behavior(self, what: str, text: str = "") -> None:
        """Change what the programs do: see the files that they look for."""
        (self.folder / what).write_text(text)

    def clear_behavior(self, what: str) -> None:
        """Take that back."""
        (self.folder / what).unlink()

    def jobs(self) -> list[tuple[str, Path]]:
        """Return the number and the script of each job that was submitted."""
        lines = (self.folder / "jobs").read_text().splitlines()
        return [(number, Path(script)) for number, _, script in (line.partition("|") for line in lines)]

    def run_task(self, script: Path, array: str, task: int) -> subprocess.CompletedProcess[str]:
        """Run a task of an array as a node of the cluster does."""
        job = {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": f"{array}{task:03}"}
        environment = {**os.environ, **self.environment, **job}
        return subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
