"""The command line of a command that takes a scenario: its name, files, flags, help, completion."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tfaip_like._cli.command import suppress_native_stderr
from tfaip_like._cli.params_command import COMMON_FLAGS, TRUST_FLAG, parse_common_flags
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._scenario_lookup import find_scenario, import_scenario_class, read_scenario_tag
from tfaip_like._user_code.importing import NoSuchModuleError
from tfaip_like._user_code.trust import TRUST_HELP, UntrustedCodeError, allow_untrusted_code, guarded_imports
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import Json
from tfaip_like._utils.lazy_keras import BACKENDS, set_backend
from tfaip_like.params import Params
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file, validate_resolved
from tfaip_like.params._base import CLASS_KEY, default_instance, field_types, qualified_name
from tfaip_like.params._docs import class_summary
from tfaip_like.params._files import read_param_file
from tfaip_like.params._flags import Flag, settings_from_flags, tokenize
from tfaip_like.params._help import complete_words, format_help, format_resolved_params, format_search_results
from tfaip_like.params._ignored_flags import ExplicitFlags, reject_ignored_flags, warn_ignored_params
from tfaip_like.params._resources import resolve_resource_paths
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device


@dataclass(frozen=True)
class ParsedScenario:
    """What a command line asked for."""

    scenario: Scenario
    given: ExplicitFlags
    """The values that its flags gave."""


@dataclass(frozen=True)
class ScenarioCommand:
    """A command with a scenario and flags for its parameters."""

    program: str
    purpose: str
    group: str = ""
    """Flags of the command itself, beside those of the scenario."""
    settings: type[Params] | None = None
    """What they set."""
    extra_switches: Mapping[str, str] = field(default_factory=dict)
    """Flags of its own without a value, with the line that help shows for each."""
    trains: bool = False
    """Whether every parameter matters to it, so that flags without an effect are refused."""
    resumes_run: bool = False
    """Whether it is given the output folder of a run instead of a scenario."""

    @property
    def switches(self) -> Mapping[str, str]:
        """The flags without a value, with the line that help shows for each."""
        return {TRUST_FLAG: TRUST_HELP, **self.extra_switches}

    def command_settings(self, scenario: Scenario) -> Params:
        """The values of its own flags."""
        return cast(Params, getattr(scenario, self.group))

    def _add_command_group(self, cls: type[Scenario]) -> type[Scenario]:
        """The scenario's class with the settings of the command as one more group."""
        if self.settings is None:
            return cls
        names = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        body = {"__annotations__": {self.group: self.settings}, self.group: self.settings(), **names}
        made = types.new_class(
            cls.__name__, (cls,), {"is_command_subclass": True}, lambda namespace: namespace.update(body)
        )
        return cast(type[Scenario], made)

    def strip_command_group(self, scenario: Scenario) -> Scenario:
        """The scenario as its own class, without the settings of the command."""
        cls = type(scenario).__mro__[1]
        return cast(Scenario, cls(**{name: getattr(scenario, name) for name in field_types(cls)}))

    def scenario(self, argv: Sequence[str]) -> ParsedScenario | None:
        """Return the scenario that was asked for, checked; None if only text was wanted, which is printed.

        Raises:
            UsageError: for every mistake in the command line, in a file or in the scenario's module.
        """
        words, flags = tokenize(argv)
        own = parse_common_flags(self.program, flags, self.switches)
        if own is None:
            return None
        with allow_untrusted_code(TRUST_FLAG in own):
            return self._scenario(words, flags, own)

    def _scenario(self, words: list[str], flags: Sequence[Flag], own: Mapping[str, Flag]) -> ParsedScenario | None:
        files = {file: read_param_file(Path(file)) for file in own["params"].words} if "params" in own else {}
        if self.resumes_run and words:
            folder, *words = words
            files = {**_read_run_params(folder), **files}
        _choose_backend_early(flags, files)
        wants_help = "help" in own
        try:
            with suppress_native_stderr():
                cls = self._load_scenario_class(words, files, wants_help)
        except (UntrustedCodeError, NoSuchModuleError) as error:
            if not wants_help or (words and not isinstance(error, UntrustedCodeError)):
                raise
            echo(self._help(ResolvedParams(default_instance(self._add_command_group(Scenario))), own["help"], named=""))
            echo(f"\nThe flags of its scenario are not shown. {error}")
            return None
        resolved = _resolve_params(self._add_command_group(cls), files, flags, [*COMMON_FLAGS, *self.switches])
        if self.resumes_run and files:
            resolved = _with_run_dir(resolved, next(iter(files)))
        if "help" in own:
            echo(self._help(resolved, own["help"], named=words[0] if words else ""))
            return None
        tree = validate_resolved(resolved)
        if "show" in own:
            echo(format_resolved_params(resolved))
            return None
        given = ExplicitFlags.from_resolved(resolved)
        if self.trains:
            reject_ignored_flags(tree, given)
        if self.trains and not self.resumes_run:
            warn_ignored_params(tree, lambda place: resolved.origins.get(place, "").startswith("file"))
        return ParsedScenario(cast(Scenario, tree), given)

    def complete(self, words: Sequence[str]) -> list[str]:
        """What can stand in place of the last of `words`; nothing if they make no sense."""
        try:
            is_named = len(words) > 1 and not words[0].startswith("-")
            files = _read_run_params(words[0]) if is_named and self.resumes_run else {}
            names = words[:1] if is_named and not self.resumes_run else []
            cls = self._load_scenario_class(names, files, wants_help=True)
            tree = _resolve_params(
                self._add_command_group(cls), {}, _flags_with_values(words[1:-1]), [*COMMON_FLAGS, *self.switches]
            ).tree
        except UsageError:
            return []
        own = (
            [f"--{name}" for name in (*COMMON_FLAGS, *self.switches) if f"--{name}".startswith(words[-1])]
            if words
            else []
        )
        return [*own, *complete_words(tree, list(words))]

    def _load_scenario_class(
        self, words: Sequence[str], files: Mapping[str, dict[str, Json]], wants_help: bool
    ) -> type[Scenario]:
        if len(words) > 1 or (words and self.resumes_run):
            what = "run" if self.resumes_run else "scenario"
            raise UsageError(f"one {what} at a time, got {' '.join(words)} too; flags begin with two dashes")
        if words:
            # Whoever only asks for help has not said that the code may run.
            with guarded_imports() if wants_help else nullcontext():
                return find_scenario(words[0])
        for file, values in files.items():
            if CLASS_KEY in values:
                return import_scenario_class(read_scenario_tag(values, file), OutputDir(Path(file).parent))
        if wants_help:
            return Scenario
        for file, values in files.items() if self.resumes_run else ():
            read_scenario_tag(values, file)
        if self.resumes_run:
            raise UsageError(f"which run? {self.program} OUTPUT_DIR [--FLAG VALUE ...], with its folder first")
        if files:
            raise UsageError(f"which scenario? Name it before the flags: {', '.join(files)} does not ({CLASS_KEY})")
        raise UsageError(
            f"which scenario? {self.program} SCENARIO [--FLAG VALUE ...], with the scenario first:\n"
            "a module (scenarios.tutorial), a class in it (pkg.module:Class) or a file (my_scenario.py)"
        )

    def _help(self, resolved: ResolvedParams, flag: Flag, named: str) -> str:
        tree = resolved.tree
        if len(flag.words) > 1:
            raise UsageError("--help takes one word to search for")
        if flag.words:
            return format_search_results(tree, flag.words[0])
        cls = type(tree)
        what = (
            f"{cls.__name__}: {class_summary(cls)}" if named else "With a scenario named, the flags of its parts too."
        )
        own = "\n".join(f"  {text}" for text in [*COMMON_FLAGS.values(), *self.switches.values()])
        placeholder = "OUTPUT_DIR" if self.resumes_run else "SCENARIO"
        return (
            f"{self.program} {named or placeholder} [--FLAG VALUE ...]\n\n{self.purpose}\n{what}\n\n{own}\n\n"
            "Values in [brackets] are those in effect. Several words make a list. "
            "The order of flags never matters.\n\n"
            f"{format_help(tree, exclude=() if named else ('data', 'model', 'evaluator'))}"
        )


def _read_run_params(folder: str) -> dict[str, dict[str, Json]]:
    """The parameters that a run was trained with, by their file."""
    run = OutputDir(Path(folder))
    if not run.trainer_params.is_file():
        kind = "there is no such folder" if not run.path.exists() else "there is no run in it (trainer_params.json)"
        raise UsageError(f"{folder}: {kind}; train-scenario SCENARIO --trainer.output_dir {folder} begins one")
    return {str(run.trainer_params): read_param_file(run.trainer_params)}


def _with_run_dir(resolved: ResolvedParams, params_file: str) -> ResolvedParams:
    """The tree with the folder that the run lies in now: it may have been moved."""
    tree, folder = cast(Scenario, resolved.tree), Path(params_file).parent
    place = ("trainer", "output_dir")
    if resolved.origins.get(place) == "flag" and tree.trainer.output_dir != folder:
        raise UsageError(
            f"--trainer.output_dir {tree.trainer.output_dir}: a run goes on in its own folder; for another one "
            "begin a new run, with --warmstart.model for its weights"
        )
    trainer = dataclasses.replace(tree.trainer, output_dir=folder)
    return ResolvedParams(dataclasses.replace(tree, trainer=trainer), resolved.origins)


def _choose_backend_early(flags: Sequence[Flag], files: Mapping[str, dict[str, Json]]) -> None:
    """Tells Keras its backend before the scenario is imported, whose module may define layers of its own."""
    name: Json = Device().backend
    for values in files.values():
        device = values.get("device")
        name = device.get("backend", name) if isinstance(device, dict) else name
    for flag in flags:
        name = flag.words[0] if flag.name == "device.backend" and flag.words else name
    if isinstance(name, str) and name in BACKENDS:  # a wrong name is reported with all other wrong values
        set_backend(str(name))


def _resolve_params(
    cls: type[Scenario], files: Mapping[str, dict[str, Json]], flags: Sequence[Flag], reserved: Sequence[str]
) -> ResolvedParams:
    """Defaults, then the files in their order, then the flags."""
    resolved = ResolvedParams(default_instance(cls))
    for file, values in files.items():
        if values.get(CLASS_KEY, qualified_name(cls)) != qualified_name(cls):
            raise UsageError(f"{file}: is for the scenario {values[CLASS_KEY]}, not for {qualified_name(cls)}")
        resolved = apply_settings(resolved, settings_from_file(values, file))
        resolved = ResolvedParams(resolve_resource_paths(resolved.tree, Path(file).parent), resolved.origins)
    return apply_settings(resolved, settings_from_flags(flags, reserved=reserved))


def _flags_with_values(words: Sequence[str]) -> list[Flag]:
    return [flag for flag in tokenize(words)[1] if flag.words]
