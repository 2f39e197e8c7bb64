"""The peers' environment (``make peers-test``): torchvision made importable; nothing to collect elsewhere."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest

# In .venv these tests do not exist; `make test` runs them in .venv-peers, where finding none is a failure.
if importlib.util.find_spec("torchvision") is None:
    collect_ignore_glob = ["test_*.py"]


def load_torchvision() -> ModuleType:
    """Import torchvision even where its compiled operators do not load.

    The wheel from PyPI is built for CUDA; beside a CPU build of torch its library stays out, and the import
    then stops at two operators nobody has declared. The networks and their weights need neither, so a
    declaration does.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    for operator in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    return importlib.import_module("torchvision")


# Now, not in the fixture: Lightning and torchmetrics look for torchvision when they are imported.
if importlib.util.find_spec("torchvision") is not None:
    load_torchvision()


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """Return torchvision, with its ``models``."""
    importlib.import_module("torchvision.models")
    return load_torchvision()
