"""One service under one uvicorn process."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import FrameType

import uvicorn

from audio.errors import InputError
from restyler.devices import pick_device
from restyler.model_folder import BUNDLED
from restyler.serving.command import is_loopback
from restyler.serving.executor import Executor
from restyler.serving.keys import fresh_key
from restyler.serving.limits import Limits
from restyler.serving.local_executor import LocalExecutor
from restyler.serving.service import Service
from restyler.serving.standalone import app
from restyler.web_server import address_of, allow_files, configured, listening, terminable


class _Server(uvicorn.Server):
    """Told to end, it lets the service know at once: streams of events would keep their connections open."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.drain()
        super().handle_exit(sig, frame)


def serve(options: argparse.Namespace, limits: Limits) -> None:
    """Serves until a signal ends it. Raises InputError for what can't be had."""
    pick_device(options.device)
    for origin in options.allow_origin:
        if origin == "*" or not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise InputError(f"--allow-origin {origin}: an origin is needed, such as https://studio.example")
    model = (options.model or BUNDLED).resolve()
    executor = _executor(options, model)
    with listening(options.host, options.port) as connections:
        allow_files()
        address = address_of(options.host, connections)
        port = connections.getsockname()[1]
        names = [options.host, "localhost", "127.0.0.1", "[::1]"]
        hosts = [f"{name}:{port}" for name in names] + (names if port == 80 else [])
        machine = (f"--device={options.device}", f"--batch={options.batch}")
        service = Service(
            options.data.resolve(),
            executor,
            model=model,
            limits=limits,
            machine=machine,
            programs=options.allow_programs,
        )
        key = fresh_key()
        application = app(
            service,
            local_key=key,
            hosts=hosts if is_loopback(options.host) else None,
            origins=options.allow_origin,
        )
        server = _Server(configured(application), service)
        # Uvicorn raises the signal that ended it once more; both of them then leave by way of the service's own end.
        with terminable(), service.running(options.grace):
            print(f"{address}/#key={key}", flush=True)
            server.run(sockets=[connections])


def _executor(options: argparse.Namespace, model: Path) -> Executor:
    if options.executor == "local":
        for name in ("workers", "gpus", "ray_address"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name.replace('_', '-')} needs --executor ray")
        return LocalExecutor(model, options.device)
    from restyler.serving.ray_executor import RayExecutor

    workers, gpus = options.workers or 1, options.gpus or 0.0
    return RayExecutor(model, options.device, workers=workers, gpus=gpus, address=options.ray_address)
