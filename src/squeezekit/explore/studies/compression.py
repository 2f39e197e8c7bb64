"""SqueezeNet, section 4, table 2: one network, made small by each method of compression."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from squeezekit.compress.compress import compress
from squeezekit.compress.pruning import sparse_bytes
from squeezekit.data.preparation import Preparation
from squeezekit.errors import UserError
from squeezekit.explore.studies.baseline import squeezenet_baseline
from squeezekit.explore.studies.ground import Ground
from squeezekit.explore.studies.rows import Row
from squeezekit.explore.studies.study import Claim, Plan, Setting, Study, Variant
from squeezekit.format import read
from squeezekit.graph.cost import cost
from squeezekit.graph.from_torch import from_torch
from squeezekit.models import Network
from squeezekit.models.checkpoint import save_checkpoint
from squeezekit.report.progress import progress_bar
from squeezekit.train.classifier import Classifier, load_classifier
from squeezekit.train.evaluate import evaluate
from squeezekit.train.origin import WEIGHTS
from squeezekit.train.shipped import IntegerClassifier

__all__ = ["COMPRESSION", "compress_and_measure"]

ORIGINAL = "float32"
_TABLE_2 = {
    ORIGINAL: "AlexNet 57.2 % top-1, 240 MB; SqueezeNet 57.5 %, 4.8 MB",
    "svd": "AlexNet 56.0 %, 48 MB",
    "pruning": "AlexNet 57.2 %, 27 MB",
    "deep-compression": "AlexNet 57.2 %, 6.9 MB; SqueezeNet 57.5 %, 0.47 MB",
    "best": "not in the paper",
}


def _compression(setting: Setting) -> Plan:
    design = squeezenet_baseline(setting, squeeze_ratio=0.5)
    variants = tuple(Variant.of(name, design, paper=paper) for name, paper in _TABLE_2.items())
    claims = (
        Claim("SVD costs 1.2 points of top-1", "svd", ORIGINAL, "less"),
        Claim("pruning costs none", "pruning", ORIGINAL, "same"),
        Claim("Deep Compression costs none", "deep-compression", ORIGINAL, "same"),
        Claim("pruning is smaller than SVD", "pruning", "svd", "less", "bytes"),
        Claim("Deep Compression is smaller than pruning", "deep-compression", "pruning", "less", "bytes"),
    )
    return Plan(variants, claims)


def compress_and_measure(ground: Ground, variant: Variant, seed: int) -> Row:
    """Measure the original, or compress it by the method that the variant is named after.

    The original is trained from the seed, or is ``ground.model``: then the seed is the method's alone. What
    is made stays in the study's folder: ``seed-0/model.safetensors``, ``seed-0/svd.sqz``.
    """
    started = time.perf_counter()
    folder = ground.folder.path / f"seed-{seed}"
    if ground.model is None and not (folder / WEIGHTS).exists():
        _train(ground, variant, seed, folder / WEIGHTS)
    classifier = load_classifier(ground.model or folder / WEIGHTS)
    if isinstance(classifier, IntegerClassifier):
        raise UserError(f"--model {ground.model}: is an int8 file (name the network that it was made from)")
    model: Classifier | Path = classifier
    if variant.name == ORIGINAL:
        side, channels = classifier.preparation.size, classifier.preparation.channels
        counted = cost(from_torch(classifier.network.cpu(), (channels, side, side)))
        size = 4 * counted.parameters
    else:
        folder.mkdir(exist_ok=True)
        model = folder / f"{variant.name}.sqz"
        method: Any = variant.name
        # The papers' methods retrain with "default", not with "low"; "best" would take a quarter of an hour.
        quick = "low" if method == "best" else "default"
        effort = quick if ground.quick else "high"
        compress(
            classifier, model, ground.data, method=method, effort=effort, seed=seed, console=ground.console
        )
        graph = read(model).graph
        counted, size = cost(graph), model.stat().st_size
        if variant.name == "pruning":
            size = sparse_bytes(graph)  # as the paper stores it; a .sqz has no sparse float32
    with progress_bar("evaluating", ground.console) as advance:
        top1 = evaluate(model, ground.data, progress=advance).top1
    return Row(
        variant=variant.name,
        seed=seed,
        size=classifier.preparation.size,
        parameters=counted.parameters,
        macs=counted.macs,
        bytes=size,
        test_accuracy=top1,
        train_accuracy=None,
        seconds=time.perf_counter() - started,
    )


def _train(ground: Ground, variant: Variant, seed: int, out: Path) -> None:
    network = ground.train(variant, seed).network
    assert isinstance(network, Network)
    training = ground.training
    ground.folder.keep()  # before its first row: what lies beside study.json is the study's
    out.parent.mkdir(exist_ok=True)
    save_checkpoint(
        out,
        network,
        {
            "model": network.config,
            "preparation": Preparation(variant.size).to_dict(),
            "classes": list(training.classes),
            "training": {**training.dealing, "epochs": ground.epochs},
        },
    )


COMPRESSION = Study(
    name="compression",
    title="Compression, method by method",
    source="SqueezeNet (arXiv:1602.07360), section 4, table 2",
    found="SVD costs accuracy; pruning and Deep Compression do not, and Deep Compression makes the smallest "
    "files, of a network that is small already too.",
    figure="size",
    plan=_compression,
    pictures_seen=40_000,
    measure=compress_and_measure,
)
