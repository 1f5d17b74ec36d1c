"""What cagdask sets up in the processes of Dask workers."""

from __future__ import annotations

import logging
import os
import signal
import threading
import uuid
from typing import Any

from distributed import WorkerPlugin

from cagdask.compute.quick_start import start_quickly
from cagdask.storage import s3, s3_settings

_FORWARDED = tuple(name for name in s3_settings.VARIABLES if name != "AWS_PROFILE")
_PROCESS = uuid.uuid4().hex
"""Of this import: numbers of processes repeat on other machines, and in containers."""


class S3Environment(WorkerPlugin):
    """Tells workers which S3 server to use. Credentials are not among it: every worker uses its own."""

    name = "cagdask-s3"

    def __init__(self) -> None:
        self.values = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
        self.driver = (_PROCESS, os.getpid())

    def setup(self, worker: Any) -> None:
        """On the worker, when it starts or the plug-in is registered."""
        if self.driver == (_PROCESS, os.getpid()):
            return  # a worker in the driver's own process, as of LocalCluster(processes=False)
        os.environ.update(self.values)
        s3.in_driver = False


class QuietWorker(WorkerPlugin):
    """A worker of our own cluster leaves it to the driver what happens on Ctrl-C, and what is said about failures.

    Ctrl-C reaches every process of a terminal, and a worker that is being closed logs that its scheduler has gone; what
    fails in a task reaches the driver as an exception.
    """

    def setup(self, worker: Any) -> None:
        """In the worker's main thread, where its event loop runs."""
        start_quickly()
        s3.in_driver = False
        for name in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
