"""Metadata of the distribution; the tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

EXTRAS = {
    "scenarios": ["scikit-learn"],
    "array_record": ["array_record"],
    "evaluation": ["jiwer>=4", "matplotlib", "scikit-learn>=1.7"],
    "parquet": ["pyarrow>=16"],
    "remote": ["fsspec[http]", "s3fs"],
    "jax": ["jax"],
    "litert": ["ai-edge-litert"],
    "mlflow": ["mlflow"],
    "onnx": ["onnx", "onnxruntime", "tf2onnx"],
    "search": ["optuna"],
    "tokenizers": ["sentencepiece", "tokenizers"],
    "torch": ["torch"],
    "trackio": ["trackio"],
    "wandb": ["wandb"],
}


def read_version() -> str:
    """Return `tfaip_like.__version__` without importing the package, whose dependencies may not be installed yet."""
    source = (ROOT / "tfaip_like/_version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert match is not None
    return match[1]


def read_long_description() -> str:
    """Return the README without its links to files of the repository, which lead nowhere on a package index."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^]]*\]\((?!https?:)[^)]+\)\n", "", text)  # images
    return re.sub(r"\[([^]]+)\]\((?!https?:|#)[^)]+\)", r"\1", text)


# The folder `scenarios` of the repository is installed under another name: it must not shadow a user's own `scenarios`.
SCENARIO_PACKAGES = [f"tfaip_like_{name}" for name in find_packages(include=["scenarios", "scenarios.*"])]

setup(
    name="tfaip_like",
    version=read_version(),
    description="Declare an experiment as a scenario, get everything else: a training framework on Keras 3",
    long_description=read_long_description(),
    long_description_content_type="text/markdown",
    author="The tfaip_like authors",
    # No `url` and no `project_urls`: the project has no public address yet, and an invented one could be
    # registered by anybody. The source distribution contains the documentation and the changelog.
    license_expression="Apache-2.0",
    license_files=["LICENSE", "tfaip_like/_report/assets/ECHARTS_*"],
    keywords=[
        "deep learning",
        "machine learning",
        "keras",
        "tensorflow",
        "jax",
        "pytorch",
        "training",
        "experiments",
        "hyperparameters",
        "slurm",
        "reproducibility",
    ],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=[*find_packages(include=["tfaip_like", "tfaip_like.*"]), *SCENARIO_PACKAGES],
    package_dir={"tfaip_like_scenarios": "scenarios"},
    package_data={
        "tfaip_like": ["py.typed"],
        "tfaip_like._report": ["assets/*"],
        "tfaip_like_scenarios": ["py.typed", "plans/*.yaml"],
    },
    # At most ten. TensorFlow and Keras themselves require three more that are imported: numpy, packaging and
    # typing_extensions.
    install_requires=[
        "tensorflow>=2.18",
        "keras>=3.14",
        "dataclasses-json>=0.6",
        "filelock>=3.12",
        "pillow>=10.1",
        "psutil>=5.9",
        "pyyaml",
        "tensorboard",
        "tensorboard-plugin-profile",
        "tqdm",
    ],
    extras_require={
        **EXTRAS,
        "dev": [
            *EXTRAS["scenarios"],
            *EXTRAS["array_record"],
            *EXTRAS["evaluation"],
            *EXTRAS["jax"],
            *EXTRAS["litert"],
            *EXTRAS["onnx"],
            *EXTRAS["parquet"],
            *EXTRAS["remote"],
            *EXTRAS["search"],
            *EXTRAS["tokenizers"],
            "hypothesis",
            "ipykernel",
            "jsonschema",
            "jupyter_client",
            "moto[server]",
            "mypy",
            "pandas",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "setuptools>=77",
            "types-PyYAML",
            "types-psutil",
            "types-tqdm",
            "wheel",
        ],
    },
    entry_points={
        "console_scripts": [
            "benchmark-input-pipeline = tfaip_like._cli.benchmark_input_pipeline:main",
            "compare-runs = tfaip_like._cli.compare_runs:main",
            "doctor = tfaip_like._cli.doctor:main",
            "evaluate-predictions = tfaip_like._cli.evaluate_predictions:main",
            "experiments = tfaip_like._cli.experiments:main",
            "lav-scenario = tfaip_like._cli.lav_scenario:main",
            "inspect-samples = tfaip_like._cli.inspect_samples:main",
            "new-scenario = tfaip_like._cli.new_scenario:main",
            "predict-scenario = tfaip_like._cli.predict_scenario:main",
            "resume-training = tfaip_like._cli.resume_training:main",
            "train-scenario = tfaip_like._cli.train_scenario:main",
        ],
    },
)
