"""The service: takes and jobs over HTTP, alone (`restyler serve`) or as a part of another FastAPI application.

from restyler.serving import LocalExecutor, Service, router

service = Service(Path("data"), LocalExecutor(model), model=model)
app = FastAPI(lifespan=service.lifespan)
app.include_router(router(service, owner=who_asks), prefix="/vocals")
"""

from __future__ import annotations

import importlib
from typing import Any

EXPORTS = {
    "Limits": "limits",
    "LocalExecutor": "local_executor",
    "Service": "service",
    "app": "standalone",
    "router": "routes",
}


def __getattr__(name: str) -> Any:
    """Imported where used: workers need no FastAPI."""
    if name not in EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{EXPORTS[name]}"), name)
