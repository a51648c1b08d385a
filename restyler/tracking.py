"""Tracking of a run by wandb, through Accelerate."""

from __future__ import annotations

from accelerate import Accelerator

from audio.errors import InputError
from restyler.checkpoints import RunFolder
from restyler.config import DenoiserConfig

TRACKER = "wandb"


def check_tracking(config: DenoiserConfig) -> None:
    """Raises InputError where tracking is to be online and nobody is logged in."""
    if config.tracking.wandb != "online":
        return
    import wandb  # slow, and most runs don't need it

    try:
        wandb.login()
    except wandb.Error as error:
        raise InputError(f"tracking.wandb: online needs a login, and wandb says: {_line(error)}") from None


def start_tracking(accelerator: Accelerator, config: DenoiserConfig, run: RunFolder) -> None:
    """Begins, or goes on with, the record of this run. Raises InputError where wandb refuses it."""
    if config.tracking.wandb == "off":
        return
    import wandb

    options = {
        "mode": config.tracking.wandb,
        "dir": str(run.path),
        "name": run.path.name,
        "id": run.identity(),
        "resume": "allow",
    }
    try:
        accelerator.init_trackers(config.tracking.project, config.model_dump(mode="json"), {TRACKER: options})
    except wandb.Error as error:
        raise InputError(f"tracking.wandb: {config.tracking.wandb} can't be begun: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
