"""Script `job.sh` that starts or resumes a run of a batch, by hand or from a queue."""

from __future__ import annotations

import shlex
import sysconfig
from pathlib import Path

from tfaip_like._runs.batch_layout import BATCH_VARIABLE

_SCRIPT = """\
#!/bin/bash
# Starts a run of this batch, or resumes it:  bash job.sh NAME
# Additional flags apply to this start only:  bash job.sh NAME --trainer.epochs 3
set -eu
batch=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
run=${{1:?missing argument NAME. usage: bash job.sh NAME}}; shift
code=$(cat "$batch/jobs/$run.code" 2>/dev/null || echo code)
[ -d "$batch/$code" ] || {{ echo "job.sh: $batch/jobs/$run.code: no directory $batch/$code" >&2; exit 2; }}
export {variable}="$batch"  # a run that is starting does not recreate a batch that was moved
export PATH={programs}:"$PATH"
export PYTHONPATH="$batch/$code${{PYTHONPATH:+:$PYTHONPATH}}"  # code snapshot, see `experiments update`
# Relative paths in the parameters refer to this directory:
cd {folder} || {{ echo "job.sh: this directory does not exist; correct it in $batch/job.sh" >&2; exit 2; }}

params="$batch/runs/$run/trainer_params.json"
more=()
if [ -e "$params" ]; then
    if [ -e "$batch/jobs/$run.flags" ]; then mapfile -t more <"$batch/jobs/$run.flags"; fi  # additional epochs
    if [ "$batch/jobs/$run.once" -nt "$params" ]; then mapfile -t -O ${{#more[@]}} more <"$batch/jobs/$run.once"; fi
    exec resume-training "$batch/runs/$run" ${{more[@]+"${{more[@]}}"}} "$@"
else
    exec train-scenario --params "$batch/jobs/$run.json" --trainer.output_dir "$batch/runs/$run" "$@"
fi
"""


def make_job_script(folder: Path) -> str:
    """Return the job script of a batch; `folder` becomes the working directory of its runs."""
    return _SCRIPT.format(
        variable=BATCH_VARIABLE,
        programs=shlex.quote(sysconfig.get_path("scripts")),
        folder=shlex.quote(str(folder)),
    )
