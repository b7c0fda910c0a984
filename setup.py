"""Metadata of the package; tools are set up in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "scenarios": ["scikit-learn", "pillow>=9.4"],
    "images": ["pillow>=9.4"],
    "parquet": ["pyarrow>=16"],
    "jax": ["jax"],
    "litert": ["ai-edge-litert"],
    "onnx": ["onnx", "onnxruntime", "tf2onnx"],
    "search": ["optuna"],
    "torch": ["torch"],
}

setup(
    name="tfaip_like",
    version="0.1.0",
    description="Declare an experiment as a scenario, get everything else: a training framework on Keras 3",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["tfaip_like", "tfaip_like.*"]),
    package_data={"tfaip_like": ["py.typed"], "tfaip_like._report": ["assets/*"]},
    install_requires=[
        "tensorflow>=2.18",
        "keras>=3.14",
        "numpy",
        "dataclasses-json>=0.6",
        "packaging",
        "pyyaml",
        "tensorboard",
        "tensorboard-plugin-profile",
        "tqdm",
    ],
    extras_require={
        **EXTRAS,
        "dev": [
            *EXTRAS["scenarios"],
            *EXTRAS["jax"],
            *EXTRAS["litert"],
            *EXTRAS["onnx"],
            *EXTRAS["parquet"],
            *EXTRAS["search"],
            "hypothesis",
            "mypy",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "types-PyYAML",
            "types-tqdm",
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
