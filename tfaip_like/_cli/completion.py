"""Shell completion: the shell asks the command itself for candidates."""

from __future__ import annotations

from collections.abc import Sequence

from tfaip_like._utils.errors import UsageError

COMPLETE_FLAG = "--complete"
"""First argument of a command line that prints the candidates for its last argument."""

_SCRIPTS = {
    "bash": """\
_tfaip_like_{function}() {{
    mapfile -t COMPREPLY < <("${{COMP_WORDS[0]}}" {complete} "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null)
}}
complete -o default -F _tfaip_like_{function} {program}""",
    "zsh": """\
#compdef {program}
_tfaip_like_{function}() {{
    compadd -- ${{(f)"$("${{words[1]}}" {complete} "${{(@)words[2,CURRENT]}}" 2>/dev/null)"}} || _files
}}
compdef _tfaip_like_{function} {program}""",
    "fish": """\
complete -c {program} -a '({program} {complete} (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'""",
}


def make_completion_script(program: str, words: Sequence[str]) -> str:
    """Return the completion script for a shell: `source <(train-scenario --completion bash)`.

    Args:
        program: name of the command; a subcommand ("experiments submit") is completed by its command.
        words: values of `--completion`: the name of the shell.

    Raises:
        UsageError: unless `words` name one of bash, zsh and fish.
    """
    if len(words) != 1 or words[0] not in _SCRIPTS:
        raise UsageError(f"--completion: expected one of {', '.join(_SCRIPTS)}, got {' '.join(words) or 'nothing'}")

    program = program.partition(" ")[0]
    return _SCRIPTS[words[0]].format(program=program, function=program.replace("-", "_"), complete=COMPLETE_FLAG)
