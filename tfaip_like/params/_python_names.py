"""Messages for Python: flags are replaced with the arguments of the classes that they set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tfaip_like._utils.errors import TrainingError, UsageError
from tfaip_like.params._base import ParamsBase
from tfaip_like.params._tree import iter_leaves

_FLAG = re.compile(r"--([a-z_]\w*(?:\.\w+)*)")


def flags_to_arguments(text: str, tree: ParamsBase, **groups: ParamsBase) -> str:
    """Return a message in which each flag of a tree is named as the argument of its class.

    `--trainer.epochs 0: must be at least 1` becomes `Trainer.epochs 0: must be at least 1`.

    Args:
        text: the message.
        tree: the root of the parameters.
        groups: further groups of flags, by the name of the group.
    """
    leaves = [*iter_leaves(tree), *(leaf for name, group in groups.items() for leaf in iter_leaves(group, (name,)))]
    arguments = {leaf.flag: f"{leaf.owner.__name__}.{leaf.path[-1]}" for leaf in leaves}
    return _FLAG.sub(lambda match: arguments.get(match[0], match[0]), text)


@contextmanager
def errors_name_arguments(tree: ParamsBase, **groups: ParamsBase) -> Iterator[None]:
    """Name arguments instead of flags in the errors that the block raises."""
    try:
        yield
    except (UsageError, TrainingError) as error:
        error.args = (flags_to_arguments(str(error), tree, **groups), *error.args[1:])
        raise
