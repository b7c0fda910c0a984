"""What an exception says, for the person whose code raised it: its reason without a library's internals, and a hint."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_LINES, MAX_CHARACTERS = 4, 300
"""Of what an exception says; all of it is in the traceback."""

_NOISE = (
    # Keras wraps what a layer raised in a sentence about the shape of its output.
    r"Could not automatically infer the output shape / dtype of .* Error encountered:\s+",
    r"Exception encountered when calling [^\n]*\n+",
    r"\n*Arguments received by .*",  # a list of all tensors
    r", numpy=\s*array.*",  # all weights of a layer
    r"```.*",  # an example of Keras' documentation
    r"{{[^}]*}} *",
    r" *\[Op:[^\]]*\]( name: *\S*)?",
    r"\s*; NodeDef: .*",
    r" You can attempt the following resolutions.*",
    r" This error may indicate that you're trying to pass a Tensor.*",
    r" See https://www\.tensorflow\.org\S* for more information\.",
    r" object at 0x[0-9a-f]+",
)

_HINTS = {
    # class of the exception, what it says -> what to do
    r"FrozenInstanceError: cannot assign to field '(inputs|targets|outputs|meta)'": (
        "A sample never changes: return a new one, dataclasses.replace(sample, inputs={...})."
    ),
    r"FrozenInstanceError: ": (
        "Parameters never change: use a local variable (layers are made and called in `build`), or declare a parameter "
        "in the class, units: int = 3."
    ),
    r"ValueError: (assignment destination|output array|array) is read-only": (
        "The arrays of a sample belong to its source: change a copy, np.array(x), and return a new sample."
    ),
    r"tf\.function only supports singleton tf\.Variables": (
        "A layer, metric or variable is created in each call: create layers in `build`, and use functions, such as "
        "keras.metrics.sparse_categorical_accuracy."
    ),
    r"Incompatible type conversion requested to type \w+|Layer .* dtype|.*(uint8|int32|int64).* is not in the list of "
    r"allowed values|Value passed to parameter .* has DataType u?int": (
        'The layer computes with floats: cast its input, ops.cast(x, "float32").'
    ),
    r"cannot compute \w+ as input #\d.* was expected to be an? (\w+) tensor but is an? (\w+)": (
        'The tensors differ in their dtype: cast one of them, ops.cast(x, "float32").'
    ),
    r"(Using a symbolic `tf\.Tensor`|A symbolic KerasTensor) .*bool|Tracer[A-Za-z]*Error": (
        "Its value is not known when the network is built: choose with ops.where(condition, a, b)."
    ),
    r"Cannot convert a symbolic|A KerasTensor is symbolic|KerasTensor cannot be used as input to a TensorFlow|"
    r"'SymbolicTensor'|'KerasTensor' object|symbolic KerasTensor is not supported|__array__\(\)": (
        "It has no value yet: compute with keras.ops and keras.layers, on the batch as a whole."
    ),
    r"StopIteration: $": "next() found nothing more; next(iterator, None) returns None instead.",
    r"'numpy\.random\._generator\.Generator' object has no attribute": (
        "`random` is a numpy.random.Generator: random.random(), random.normal(), random.integers(low, high) ..."
    ),
    r"TypeError: (object of type 'generator' has no len|'generator' object is not subscriptable)": (
        "Samples come one by one and are not kept: loop over them once, or list(samples) where they fit in memory."
    ),
    r"ImportError: attempted relative import with no known parent package": (
        "The file is in no package: put an __init__.py beside it, or import the module by its name."
    ),
    r"TypeError: Can't instantiate abstract class (\w+) with(?:out an implementation for)? abstract method '?(\w+)": (
        r"\1 needs a method `\2`."
    ),
    r"TypeError: (cannot inherit non-frozen dataclass|Cannot overwrite attribute __setattr__)": (
        "Leave @dataclass out: a class that extends one of tfaip_like is a frozen dataclass already."
    ),
    r"TypeError: \w+\.__init__\(\) takes 1 positional argument": "Parameters are given by name: units=4.",
    r"ValueError: mutable default <class '([\w.]+)'> for field (\w+)": (
        r"\1 cannot be a parameter; use a list or a tuple of numbers, or the path of a file."
    ),
    r"RecursionError": "The function calls itself without an end.",
}


def describe_error(error: BaseException) -> str:
    """Return the class and message of an exception, shortened, with what helps against it and its notes."""
    cause = _unwrap(error)
    said = f"{type(cause).__name__}: {_clean_message(cause)}"
    lines = [line.rstrip() for line in said.splitlines() if line.strip()]
    shown = [line if len(line) <= MAX_CHARACTERS else f"{line[:MAX_CHARACTERS]} ..." for line in lines[:MAX_LINES]]
    shown += ["..."] if len(lines) > MAX_LINES else []
    return "\n".join([*shown, *_find_hints(said), *dict.fromkeys(getattr(error, "__notes__", []))])


def _unwrap(error: BaseException) -> BaseException:
    """Return the exception that another one hides."""
    inner = error.__cause__ or error.__context__
    hides = re.search(r"automatically infer the shape of the Lambda|^generator raised StopIteration$", str(error))
    return inner if inner is not None and hides else error


def _clean_message(error: BaseException) -> str:
    text = str(error)
    for pattern in _NOISE:
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    return text.strip() or str(error)


def _find_hints(said: str) -> Iterator[str]:
    for pattern, hint in _HINTS.items():
        if match := re.search(pattern, said, re.DOTALL):
            yield match.expand(hint)
            return
