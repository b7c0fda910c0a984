"""A real moto server, which answers as Amazon's S3, for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BUCKET = "bucket"


@contextmanager
def s3_server() -> Iterator[tuple[Any, dict[str, str]]]:
    """Serve S3 on a free port; yield the file system, with a bucket, and the environment of its clients."""
    server_module = pytest.importorskip("moto.server", reason="needs moto[server] and s3fs")
    s3fs = pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            s3fs.S3FileSystem.clear_instance_cache()
            files = s3fs.S3FileSystem(use_listings_cache=False)
            files.mkdir(BUCKET)
            yield files, {**os.environ, **environment}
            s3fs.S3FileSystem.clear_instance_cache()
    finally:
        server.stop()
