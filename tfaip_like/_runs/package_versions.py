"""Versions of the packages that results depend on, as recorded in runs and exports."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

RECORDED_PACKAGES = ("tfaip_like", "keras", "tensorflow", "jax", "torch", "numpy")


def installed_versions() -> dict[str, str]:
    """Return the version of each recorded package that is installed."""
    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
