"""Shell completion: the shell asks the command itself what can come next."""

from __future__ import annotations

from collections.abc import Sequence

from tfaip_like._utils.errors import UsageError

COMPLETE_FLAG = "--complete"
"""As the first word of a command line: print what can stand in place of the last of the words that follow."""

_SCRIPTS = {
    "bash": """\
_tfaip_like_{function}() {{
    mapfile -t COMPREPLY < <("${{COMP_WORDS[0]}}" {ask} "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null)
}}
complete -o default -F _tfaip_like_{function} {program}""",
    "zsh": """\
#compdef {program}
_tfaip_like_{function}() {{
    compadd -- ${{(f)"$("${{words[1]}}" {ask} "${{(@)words[2,CURRENT]}}" 2>/dev/null)"}} || _files
}}
compdef _tfaip_like_{function} {program}""",
    "fish": """\
complete -c {program} -a '({program} {ask} (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'""",
}


def make_completion_script(program: str, words: Sequence[str]) -> str:
    """The script to be read by a shell: `source <(train-scenario --completion bash)`."""
    if len(words) != 1 or words[0] not in _SCRIPTS:
        raise UsageError(f"--completion: name your shell, one of {', '.join(_SCRIPTS)}")
    return _SCRIPTS[words[0]].format(program=program, function=program.replace("-", "_"), ask=COMPLETE_FLAG)
