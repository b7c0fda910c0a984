"""Commands on a scenario: the scenario's parameters are their flags."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tfaip_like._cli.command_line import Command, ParamFiles, ParsedCommandLine
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._scenario_lookup import find_scenario, import_scenario_class, read_scenario_tag
from tfaip_like._user_code.trust import allow_untrusted_code, guarded_imports
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import Json, format_json
from tfaip_like._utils.lazy_keras import BACKENDS, set_backend
from tfaip_like._utils.native_stderr import suppress_native_stderr
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.params import Params
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file, validate_resolved
from tfaip_like.params._base import CLASS_KEY, default_instance, field_types, qualified_name
from tfaip_like.params._docs import class_summary
from tfaip_like.params._field_rules import DiffersPerScenario, field_rules
from tfaip_like.params._files import read_param_file
from tfaip_like.params._ignored_flags import ExplicitFlags, reject_ignored_flags, warn_ignored_params
from tfaip_like.params._resources import resolve_resource_paths
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device


@dataclass(frozen=True)
class ParsedScenario:
    """Scenario that a command line describes."""

    scenario: Scenario
    options: Params | None
    """Settings of the command itself."""
    explicit_flags: ExplicitFlags
    """Values given by flags."""
    switches: Collection[str]
    """Names of the flags without a value."""


@dataclass(frozen=True, kw_only=True)
class ScenarioCommand(Command):
    """Command with a scenario and flags for its parameters.

    Args:
        group: name of the group of flags of the command itself.
        options: settings that these flags set.
        trains: whether the command trains; flags without an effect are then rejected.
        resumes_run: whether the command takes a run directory instead of a scenario.
    """

    placeholder: str = "SCENARIO"
    runs_code: bool = True
    group: str = ""
    options: type[Params] | None = None
    trains: bool = False
    resumes_run: bool = False

    def read_scenario(self, argv: Sequence[str]) -> ParsedScenario | None:
        """Return the validated scenario of a command line; None if it only asked for a text, which has been printed.

        Raises:
            UsageError: for every mistake in the command line, in a file or in the scenario's module.
        """
        line = self.read(argv)
        if line is None:
            return None
        with allow_untrusted_code(line.is_trusting):
            resolved = self.resolve(line, self.load_defaults(line, is_text_only=False))
            tree = cast(Scenario, validate_resolved(resolved))
            explicit_flags = ExplicitFlags.from_resolved(resolved)
            if self.trains:
                reject_ignored_flags(tree, explicit_flags)
            if self.trains and not self.resumes_run:
                warn_ignored_params(tree, lambda path: resolved.origins.get(path, "").startswith("file"))
            options = getattr(tree, self.group) if self.options else None
            return ParsedScenario(self._strip_command_group(tree), options, explicit_flags, tuple(line.common))

    def read_files(self, words: Sequence[str], paths: Sequence[str]) -> ParamFiles:
        """Read the parameter files of a command line; those of the run to resume come first."""
        run_params = _read_run_params(words[0]) if self.resumes_run and words else {}
        return {**run_params, **super().read_files(words, paths)}

    def load_defaults(self, line: ParsedCommandLine, is_text_only: bool) -> Params:
        """Import the scenario and return its defaults."""
        _choose_backend_early(line)
        with suppress_native_stderr():
            return self._with_command_group(self._load_scenario_class(line, is_text_only))

    def general_defaults(self) -> Params:
        """Return the parameters that all scenarios have."""
        return self._with_command_group(Scenario)

    def resolve(self, line: ParsedCommandLine, defaults: Params) -> ResolvedParams:
        """Apply files and flags to the defaults; paths of resources in a file are relative to its directory."""
        resolved = ResolvedParams(defaults)
        name = qualified_name(type(defaults))
        for file, values in line.files.items():
            if values.get(CLASS_KEY, name) != name:
                raise UsageError(f"{file}: parameters of the scenario {values[CLASS_KEY]}, expected {name}")
            resolved = apply_settings(resolved, settings_from_file(values, file))
            resolved = ResolvedParams(resolve_resource_paths(resolved.tree, to_path(file).parent), resolved.origins)
        resolved = apply_settings(resolved, line.flag_settings)
        return (
            _with_run_dir(resolved, Path(next(iter(line.files))).parent)
            if self.resumes_run and line.files
            else resolved
        )

    def _format_schema(self, line: ParsedCommandLine) -> str:
        """Return the JSON Schema of parameter files of the scenario, or of its plans (`--schema plan`)."""
        if list(line.common["schema"].words) != ["plan"]:
            return super()._format_schema(line)
        from tfaip_like.experiments._plans.plan_schema import plan_schema

        scenario = default_instance(self._load_scenario_class(line, is_text_only=False))
        return format_json(plan_schema(scenario), indent=1)

    def describe(self, tree: Params) -> tuple[str, Sequence[str]]:
        """Return the introduction of the help, and the groups to hide as long as no scenario is named."""
        cls = self._scenario_class(tree)
        if cls is Scenario:
            hint = f"With {self.placeholder}, the flags of its data, model and evaluator are listed too."
            return f"{self.purpose}\n{hint}", list(field_rules(Scenario, DiffersPerScenario))
        return f"{self.purpose}\n{cls.__name__}: {class_summary(cls)}", ()

    def overview(self, tree: Params) -> tuple[Collection[str], Collection[str]]:
        """Return the groups of the command and of the scenario itself, and the flags that most trainings set."""
        cls = self._scenario_class(tree)
        own_groups = [name for name in field_types(cls) if name not in field_types(Scenario)]
        shown = [*field_rules(Scenario, DiffersPerScenario), *own_groups]
        return [*([self.group] if self.options else []), *shown], cls.common_flags

    def _load_scenario_class(self, line: ParsedCommandLine, is_text_only: bool) -> type[Scenario]:
        if len(line.words) > 1:
            kind = "run" if self.resumes_run else "scenario"
            raise UsageError(f"expected one {kind}, got {' '.join(line.words)}; flags begin with two dashes")
        if line.words and not self.resumes_run:
            # --help must not run untrusted code.

            with guarded_imports() if is_text_only else nullcontext():
                return find_scenario(line.words[0])
        for file, values in line.files.items():
            if CLASS_KEY in values:
                return import_scenario_class(read_scenario_tag(values, file), OutputDir(Path(file).parent))
        if is_text_only:
            return Scenario
        raise self._missing_scenario_error(line.files)

    def _missing_scenario_error(self, files: ParamFiles) -> UsageError:
        usage = f"{self.program} {self.placeholder} [--FLAG VALUE ...]"
        if self.resumes_run:
            for file, values in files.items():
                read_scenario_tag(values, file)
            return UsageError(f"missing argument {self.placeholder}; usage: {usage}")
        if files:
            return UsageError(
                f"missing argument {self.placeholder}: {', '.join(files)} has no {CLASS_KEY}; usage: {usage}"
            )
        return UsageError(
            f"missing argument {self.placeholder}; usage: {usage}\n"
            f"{self.placeholder} is a module (scenarios.tutorial), a class (pkg.module:Class) or a file "
            "(my_scenario.py)"
        )

    def _with_command_group(self, cls: type[Scenario]) -> Params:
        """Return the defaults of a scenario with the settings of the command as one more group."""
        if self.options is None:
            return default_instance(cls)
        names = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        body = {"__annotations__": {self.group: self.options}, self.group: self.options(), **names}
        subclass = types.new_class(
            cls.__name__, (cls,), {"is_command_subclass": True}, lambda namespace: namespace.update(body)
        )
        return default_instance(cast(type[Scenario], subclass))

    def _scenario_class(self, tree: Params) -> type[Scenario]:
        return cast(type[Scenario], type(tree) if self.options is None else type(tree).__mro__[1])

    def _strip_command_group(self, tree: Scenario) -> Scenario:
        if self.options is None:
            return tree
        cls = self._scenario_class(tree)
        return cls(**{name: getattr(tree, name) for name in field_types(cls)})


def _read_run_params(run_dir: str) -> ParamFiles:
    """Read the parameters that a run was trained with."""
    run = OutputDir(Path(run_dir))
    if not run.trainer_params.is_file():
        problem = "directory has no run (trainer_params.json)" if run.path.exists() else "no such directory"
        raise UsageError(
            f"{run_dir}: {problem}; to start a run: train-scenario SCENARIO --trainer.output_dir {run_dir}"
        )
    return {str(run.trainer_params): read_param_file(run.trainer_params)}


def _with_run_dir(resolved: ResolvedParams, run_dir: Path) -> ResolvedParams:
    """Set the output directory to where the run is now: it may have been moved."""
    scenario = cast(Scenario, resolved.tree)
    output_dir = scenario.trainer.output_dir
    if resolved.origins.get(("trainer", "output_dir")) == "flag" and output_dir != run_dir:
        raise UsageError(
            f"--trainer.output_dir {output_dir}: a run resumes in its own directory; to write to another one, start a "
            "new run with --warmstart.model"
        )
    trainer = dataclasses.replace(scenario.trainer, output_dir=run_dir)
    return ResolvedParams(dataclasses.replace(scenario, trainer=trainer), resolved.origins)


def _choose_backend_early(line: ParsedCommandLine) -> None:
    """Set Keras' backend before the scenario is imported: its module may define layers."""
    name: Json = Device().backend
    for values in line.files.values():
        device = values.get("device")
        name = device.get("backend", name) if isinstance(device, dict) else name
    for flag in line.flags:
        name = flag.words[0] if flag.name == "device.backend" and flag.words else name
    if isinstance(name, str) and name in BACKENDS:  # an invalid name is reported with all other invalid values
        set_backend(name)
