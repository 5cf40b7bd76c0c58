"""What a job needs from a service: a pool of endpoints with a model, for as long as it runs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptive_samplers.config.model.generation import ServerSettings
from adaptive_samplers.config.model.judges import ModelJudgeSettings
from adaptive_samplers.config.model.sources import BaseModelSettings
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.serving.kinds import Served, ServerKind, Task
from adaptive_samplers.serving.pool import EndpointPool
from adaptive_samplers.serving.server import (
    ENDPOINT_KEY_VARIABLE,
    OtherServer,
    OwnServer,
    check_has_package,
    mark_of,
)


@contextmanager
def serve(
    kind: ServerKind,
    settings: ServerSettings,
    model: BaseModelSettings | ModelJudgeSettings,
    folder: Path,
    log: Path,
    task: Task = "generate",
) -> Iterator[EndpointPool]:
    """A pool of endpoints that serve the model in `folder`.

    Without `endpoints` in the settings, the server is this job's own: it starts on a free port of the loopback
    interface, behind a random key, is restarted when it dies, and ends with the job, however that ends.

    Parameters
    ----------
    kind : ServerKind
    settings : the section of this kind in the config.
    model : of which its dtype, device and trust_remote_code are read.
    folder : Path
        Its folder, as the rule `fetch_model` makes it.
    log : Path
        Where the output of the job's own server goes.
    task : str
        `generate`, or `embedding` for a model that scores texts.

    Raises
    ------
    UserError
        If the server cannot be started, or an endpoint serves another model.
    """
    mark = mark_of(task, folder)
    if settings.endpoints:
        key = os.environ.get(ENDPOINT_KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        servers = [OtherServer(kind, task, url.rstrip("/"), mark, headers) for url in settings.endpoints]
        yield EndpointPool(servers, settings.concurrency, settings.request_timeout)
        return
    python = settings.python or sys.executable
    check_has_package(kind, python)
    device = choose_device(model.device)
    arguments = kind.arguments(
        Served(
            folder,
            mark,
            device=device,
            dtype=model.dtype,
            trust_remote_code=model.trust_remote_code,
            task=task,
            tensor_parallel=settings.tensor_parallel,
            data_parallel=settings.data_parallel,
            extra=settings.arguments,
        )
    )
    server = OwnServer(kind, task, python, arguments, device, log, settings.start_timeout)
    try:
        server.start()
        yield EndpointPool([server], settings.concurrency, settings.request_timeout)
    finally:
        server.stop()
