"""`job.sh`: how one run of a batch is started, by hand or by a queue."""

from __future__ import annotations

import shlex
import sysconfig
from pathlib import Path

_SCRIPT = """\
#!/bin/bash
# Runs one run of this batch, or goes on with it where it stopped:  bash job.sh NAME
# Further words are flags for this start only:  bash job.sh NAME --trainer.epochs 3
set -eu
batch=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
run=${{1:?name a run: bash job.sh NAME}}; shift
code=$(cat "$batch/jobs/$run.code" 2>/dev/null || echo code)
[ -d "$batch/$code" ] || {{ echo "job.sh: $batch/jobs/$run.code: there is no such folder in the batch" >&2; exit 2; }}
export PATH={programs}:"$PATH"
export PYTHONPATH="$batch/$code${{PYTHONPATH:+:$PYTHONPATH}}"  # the scenario as it was, see `experiments update`
# Relative paths in the parameters start here:
cd {folder} || {{ echo "job.sh: this folder is gone; change it in $batch/job.sh" >&2; exit 2; }}

params="$batch/runs/$run/trainer_params.json"
more=()
if [ -e "$params" ]; then
    if [ -e "$batch/jobs/$run.flags" ]; then mapfile -t more <"$batch/jobs/$run.flags"; fi  # more epochs than planned
    if [ "$batch/jobs/$run.once" -nt "$params" ]; then mapfile -t -O ${{#more[@]}} more <"$batch/jobs/$run.once"; fi
    exec resume-training "$batch/runs/$run" ${{more[@]+"${{more[@]}}"}} "$@"
else
    exec train-scenario --params "$batch/jobs/$run.json" --trainer.output_dir "$batch/runs/$run" "$@"
fi
"""


def make_job_script(folder: Path) -> str:
    """The script of a batch that is generated in a folder."""
    return _SCRIPT.format(programs=shlex.quote(sysconfig.get_path("scripts")), folder=shlex.quote(str(folder)))
