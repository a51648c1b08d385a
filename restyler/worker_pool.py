"""Processes that share work on files."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """So many processes of one thread each.

    Spawned, as a fork of a process in which PyTorch has started threads may hang.
    """
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,))
