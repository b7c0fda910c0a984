"""Which devices compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Run
from small import small

from tfaip_like import UsageError, train
from tfaip_like._training.devices import Devices, configure_devices, select_gpus
from tfaip_like.settings import Device

ONE, TWO, FOUR = ["H100"], ["H100"] * 2, ["H100"] * 4


@pytest.mark.parametrize(
    ("asked", "present", "visible", "chosen"),
    [
        ({}, [], None, []),
        ({}, ONE, None, [0]),
        ({}, FOUR, None, [0]),
        ({}, FOUR, [2, 3], [2]),
        ({}, FOUR, [], []),
        ({"gpus": [-1]}, [], None, []),
        ({"gpus": [-1]}, TWO, None, []),
        ({"gpus": [1]}, TWO, None, [1]),
        ({"gpus": [3, 0]}, FOUR, None, [3, 0]),
        ({"gpus": [3, 0]}, FOUR, [1], [3, 0]),
        ({"gpus": [1], "dist_strategy": "mirror"}, TWO, None, [1]),
        ({"dist_strategy": "mirror"}, TWO, None, [0, 1]),
        ({"dist_strategy": "mirror"}, FOUR, [1, 3], [1, 3]),
        ({"dist_strategy": "mirror"}, [], None, []),
        ({"gpus": [1], "backend": "jax"}, TWO, None, [1]),
        ({"backend": "torch"}, TWO, None, [0]),
    ],
)
def test_the_requested_gpus_are_selected(
    asked: dict[str, Any], present: list[str], visible: list[int] | None, chosen: list[int]
) -> None:
    assert select_gpus(Device(**asked), present, visible) == chosen


@pytest.mark.parametrize(
    ("asked", "present", "hidden", "message"),
    [
        ({"gpus": [1]}, ONE, None, "--device.gpus 1: the only GPU is number 0"),
        ({"gpus": [0, 5]}, FOUR, None, "--device.gpus 5: no such GPU; available: 0 to 3"),
        (
            {"gpus": [2]},
            TWO,
            "2,3",
            "--device.gpus 2: no such GPU; available: 0 to 1; CUDA_VISIBLE_DEVICES is '2,3' and hides all others",
        ),
        (
            {"gpus": [0]},
            [],
            None,
            "--device.gpus 0: TensorFlow finds no GPU\n"
            "If this machine has one, TensorFlow may lack CUDA support: pip install 'tensorflow[and-cuda]'",
        ),
        (
            {"gpus": [0], "backend": "jax"},
            [],
            "-1",
            "--device.gpus 0: JAX finds no GPU; CUDA_VISIBLE_DEVICES is '-1' and hides all others\n"
            "If this machine has one, JAX may lack CUDA support: pip install 'jax[cuda12]'",
        ),
        (
            {"gpus": [0, 1], "backend": "jax"},
            TWO,
            None,
            "--device.gpus 0 1: training on JAX supports a single GPU; choose one",
        ),
    ],
)
def test_an_unavailable_gpu_is_an_error(
    asked: dict[str, Any], present: list[str], hidden: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hidden is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with pytest.raises(UsageError) as error:
        select_gpus(Device(**asked), present)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        (Devices({}, 0, 8), "CPU (8 threads)"),
        (Devices({}, 0, 1), "CPU (1 thread)"),
        (Devices({}, 2, 8), "CPU (8 threads), 0 of 2 GPUs"),
        (Devices({0: "NVIDIA H100"}, 1, 8), "GPU 0 (NVIDIA H100), 1 of 1 GPUs"),
        (Devices({1: "NVIDIA H100"}, 2, 8), "GPU 1 (NVIDIA H100), 1 of 2 GPUs"),
        (Devices({1: "NVIDIA H100", 0: "NVIDIA H100"}, 4, 8), "GPUs 1 and 0 (NVIDIA H100), 2 of 4 GPUs"),
        (
            Devices({0: "NVIDIA A100", 2: "NVIDIA H100"}, 3, 8),
            "GPUs 0 and 2 (NVIDIA A100 and NVIDIA H100), 2 of 3 GPUs",
        ),
    ],
)
def test_devices_are_described(devices: Devices, text: str) -> None:
    assert str(devices) == text


def test_tensorflow_counts_the_gpus_that_it_sees() -> None:
    assert Devices({3: "NVIDIA H100", 1: "NVIDIA H100"}, 4, 8).names == ["GPU:0", "GPU:1"]
    assert Devices({}, 4, 8).names == []


def test_the_log_names_the_device(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "tfaip_like"):
        train(small(tmp_path / "run", trainer={"epochs": 1}, device=Device(gpus=[-1])))
    assert any(message.startswith("Using CPU (") for message in caplog.messages)
    assert "Using CPU (" in (tmp_path / "run" / "train.log").read_text()


def test_selecting_devices_again_has_no_effect() -> None:
    device = Device(gpus=[-1])
    assert configure_devices(device) == configure_devices(device)


# On TensorFlow and JAX as they are; processors stand in for GPUs, which may not be here.


def run_python(run: Run, code: str, **environment: str) -> str:
    done = run(sys.executable, "-c", code, environment={"PYTHONPATH": str(REPOSITORY), **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_tensorflow_uses_the_selected_device_and_rejects_a_later_change(run: Run) -> None:
    code = """
import tensorflow as tf
from tfaip_like import UsageError
from tfaip_like._training.devices import _TensorFlowBackend
from tfaip_like.settings import Device
library = _TensorFlowBackend("CPU")
assert library.visible() == [0]
library.configure([0], Device(gpus=[0], soft_placement=False))
assert not tf.config.get_soft_device_placement()
tf.constant(0)
library.configure([0], Device(gpus=[0]))  # the same again
assert tf.config.get_soft_device_placement()
library.configure([], Device())  # nothing was asked for
try:
    library.configure([], Device(gpus=[1, 2]))
except UsageError as error:
    print(error)
"""
    assert run_python(run, code) == (
        "--device.gpus 1 2: TensorFlow has already initialized its devices in this process.\n"
        "Create no tensors before training, or set the environment variable CUDA_VISIBLE_DEVICES=1,2.\n"
    )


@pytest.mark.slow
def test_jax_uses_the_selected_device(run: Run) -> None:
    code = """
from tfaip_like._utils.lazy_keras import set_backend
from tfaip_like import keras, ops
set_backend("jax")
from tfaip_like._training.devices import _JaxBackend, configure_devices
from tfaip_like.settings import Device
library = _JaxBackend("cpu")
assert len(library.gpus()) == 3
library.configure([2], Device(backend="jax", gpus=[2]))
layer = keras.layers.Dense(2)
outputs = layer(ops.zeros((1, 2)))
print([device.id for tensor in (outputs, layer.kernel.value) for device in tensor.devices()])
print(configure_devices(Device(backend="jax", gpus=[-1])).gpus)
print([device.id for device in ops.zeros(()).devices()])
"""
    printed = run_python(run, code, XLA_FLAGS="--xla_force_host_platform_device_count=3")
    assert printed == "[2, 2]\n{}\n[0]\n"
