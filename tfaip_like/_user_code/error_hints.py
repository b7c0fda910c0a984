"""Readable descriptions of exceptions raised by user code: message without library internals, and a hint."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_LINES, MAX_CHARACTERS = 4, 300
"""Limits of a message: number of lines, and characters per line. The traceback contains all of it."""

_NOISE = (
    # Keras wraps exceptions of layers in a sentence about output shapes.
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
    # pattern of "ExceptionClass: message" -> hint
    r"FrozenInstanceError: cannot assign to field '(inputs|targets|outputs|meta)'": (
        "Samples are immutable: return a new one, dataclasses.replace(sample, inputs={...})."
    ),
    r"FrozenInstanceError: ": (
        "Parameters are immutable: use a local variable (create and call layers in `build`), or declare a parameter in "
        "the class, units: int = 3."
    ),
    r"ValueError: (assignment destination|output array|array) is read-only": (
        "Arrays of a sample belong to its source: modify a copy, np.array(x), and return a new sample."
    ),
    r"tf\.function only supports singleton tf\.Variables": (
        "A layer, metric or variable is created on every call: create layers in `build`, and use functions such as "
        "keras.metrics.sparse_categorical_accuracy."
    ),
    r"Incompatible type conversion requested to type \w+|Layer .* dtype|.*(uint8|int32|int64).* is not in the list of "
    r"allowed values|Value passed to parameter .* has DataType u?int": (
        'The layer requires floats: cast its input, ops.cast(x, "float32").'
    ),
    r"cannot compute \w+ as input #\d.* was expected to be an? (\w+) tensor but is an? (\w+)": (
        'The tensors have different dtypes: cast one of them, ops.cast(x, "float32").'
    ),
    r"(Using a symbolic `tf\.Tensor`|A symbolic KerasTensor) .*bool|Tracer[A-Za-z]*Error": (
        "Its value is unknown while the model is built: use ops.where(condition, a, b)."
    ),
    r"Cannot convert a symbolic|A KerasTensor is symbolic|KerasTensor cannot be used as input to a TensorFlow|"
    r"'SymbolicTensor'|'KerasTensor' object|symbolic KerasTensor is not supported|__array__\(\)": (
        "It is symbolic and has no value: use keras.ops and keras.layers on the whole batch."
    ),
    r"StopIteration: $": "next() was called on an exhausted iterator; next(iterator, None) returns None instead.",
    r"'numpy\.random\._generator\.Generator' object has no attribute": (
        "`random` is a numpy.random.Generator: random.random(), random.normal(), random.integers(low, high) ..."
    ),
    r"TypeError: (object of type 'generator' has no len|'generator' object is not subscriptable)": (
        "Samples are a one-shot iterator: loop over them once, or use list(samples) if they fit into memory."
    ),
    r"ImportError: attempted relative import with no known parent package": (
        "The file is not part of a package: add an __init__.py to its directory, or use an absolute import."
    ),
    r"TypeError: Can't instantiate abstract class (\w+) with(?:out an implementation for)? abstract method '?(\w+)": (
        r"\1 must define the method `\2`."
    ),
    r"TypeError: (cannot inherit non-frozen dataclass|Cannot overwrite attribute __setattr__)": (
        "Remove @dataclass: subclasses of tfaip_like classes are frozen dataclasses already."
    ),
    r"TypeError: \w+\.__init__\(\) takes 1 positional argument": "Pass parameters as keyword arguments: units=4.",
    r"ValueError: mutable default <class '([\w.]+)'> for field (\w+)": (
        r"\1 cannot be a parameter; use a list or tuple of numbers, or the path of a file."
    ),
    r"RecursionError": "The function calls itself infinitely.",
}


def describe_error(error: BaseException) -> str:
    """Return the class and shortened message of an exception, with a hint if one is known, and its notes."""
    cause = _unwrap(error)
    text = f"{type(cause).__name__}: {_clean_message(cause)}"
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    shown = [line if len(line) <= MAX_CHARACTERS else f"{line[:MAX_CHARACTERS]} ..." for line in lines[:MAX_LINES]]
    shown += ["..."] if len(lines) > MAX_LINES else []
    return "\n".join([*shown, *_find_hints(text), *dict.fromkeys(getattr(error, "__notes__", []))])


def _unwrap(error: BaseException) -> BaseException:
    """Return the exception that a less informative one wraps, else the exception itself."""
    inner = error.__cause__ or error.__context__
    is_wrapper = re.search(r"automatically infer the shape of the Lambda|^generator raised StopIteration$", str(error))
    return inner if inner is not None and is_wrapper else error


def _clean_message(error: BaseException) -> str:
    text = str(error)
    for pattern in _NOISE:
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    return text.strip() or str(error)


def _find_hints(text: str) -> Iterator[str]:
    for pattern, hint in _HINTS.items():
        if match := re.search(pattern, text, re.DOTALL):
            yield match.expand(hint)
            return
