"""``squeezekit.compress``: a trained network in, one small file out."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from rich.console import Console

from squeezekit import __version__
from squeezekit.compress.best import (
    Calibrated,
    Quantized,
    calibrate,
    changes,
    outline,
    predicted_loss,
    price_of,
    quantize,
)
from squeezekit.compress.canonical import canonical
from squeezekit.compress.deep_compression import deep_compress
from squeezekit.compress.judging import Judges, drop
from squeezekit.compress.layers import dense_bytes, layers
from squeezekit.compress.learning import learn
from squeezekit.compress.material import MOST_JUDGES, Material, gather, noise
from squeezekit.compress.pruning import prune, prune_and_retrain, sparse_bytes
from squeezekit.compress.retraining import retrain
from squeezekit.compress.shared_weights import Initialisation
from squeezekit.compress.svd import decompose, decompose_to_bytes
from squeezekit.data.source import PictureSet, open_pictures
from squeezekit.errors import UserError, suggest
from squeezekit.files import write_bytes
from squeezekit.format import Model, dumps
from squeezekit.format.weights import Coding
from squeezekit.graph.cost import cost
from squeezekit.graph.from_torch import from_torch
from squeezekit.graph.graph import Graph
from squeezekit.graph.passes import at_rest, prepare
from squeezekit.report.progress import progress_bar
from squeezekit.train.classifier import Classifier, load_classifier
from squeezekit.train.precision import bf16_pays
from squeezekit.train.shipped import IntegerClassifier, training_metadata

__all__ = ["METHODS", "Compression", "compress"]

Method = Literal["best", "deep-compression", "pruning", "svd"]
METHODS: tuple[str, ...] = get_args(Method)

#: How much work to spend: parts of the network that are rounded one after the other, and multiplications of
#: learning, where there are pictures enough; but no more passes through them than PASSES.
EFFORTS = {"low": (1, 0.0), "default": (8, 80e12), "high": (64, 300e12)}
PASSES = 30
#: What rounding may change, nats of KL divergence a picture, where nothing else is asked for.
LOSS = 0.02
#: The same as measured on calibration pictures, where the prediction was too bold.
MOST_LOSS = 0.1
#: Times that a size or a drop is aimed at.
ATTEMPTS = 4
#: Shares of the bytes allowed: what is aimed at, and what is near enough.
ROOM, NEAR = 0.995, 0.975
#: Prices of which one is so many times the other make files of nearly the same bytes.
CLOSE = 1.15


@dataclass(frozen=True)
class Compression:
    """A file that was written, and how it does.

    Attributes
    ----------
    out : str
        The file.
    method : str
    bytes : int
        Of the whole file, names included.
    original_bytes : int
        Of the network's parameters in float32.
    parameters : int
        Weights and biases.
    bits_per_weight : float
        The whole file over all weights of convolutions and linear layers.
    judged : int
        Pictures that the figures below are of; none of them calibrated, or chose the size. 0 without DATA:
        then the figures are None.
    agreement : float or None
        Share of them to which the file gives the original's first answer.
    top1, original_top1, top5, original_top5 : float or None
        Where the folders carry the model's class names.
    seconds : float
    attempts : tuple of dict
        Every size that was tried on the way: bytes, the file where it was kept, and agreement, top1 and so on
        where they were measured, with a largest drop on the pictures that choose.
    stages : dict of str to int or None
        Of pruning and Deep Compression: bytes of all parameters after each stage, as the papers count them.
    """

    out: str
    method: str
    bytes: int
    original_bytes: int
    parameters: int
    bits_per_weight: float
    judged: int
    agreement: float | None
    top1: float | None
    original_top1: float | None
    top5: float | None
    original_top5: float | None
    seconds: float
    attempts: tuple[dict[str, Any], ...] = ()
    stages: dict[str, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return asdict(self)


@dataclass
class _Try:
    """One candidate for the file."""

    content: bytes
    graph: Graph
    price: float
    figures: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, int] | None = None
    file: Path | None = None

    def write(self, file: Path) -> None:
        write_bytes(file, self.content)
        self.file = file

    def row(self) -> dict[str, Any]:
        kept = {} if self.file is None else {"file": str(self.file)}
        return {"bytes": len(self.content), "price": self.price, **kept, **self.figures}


def compress(
    model: str | Path | Classifier,
    out: str | Path,
    data: str | Path | PictureSet | None = None,
    *,
    method: Method = "best",
    max_bytes: int | None = None,
    max_drop: float | None = None,
    sweep: bool = False,
    sparsity: float | None = None,
    bits: int | None = None,
    initialisation: Initialisation | None = None,
    energy: float | None = None,
    effort: str = "default",
    coding: Coding = "range",
    classes: str | Path | None = None,
    weights: str | Path | None = None,
    preparation: str | Path | None = None,
    most_pictures: int = 500,
    seed: int = 0,
    console: Console | None = None,
    warn: Callable[[str], None] | None = None,
) -> Compression:
    """Compress a network into a ``.sqz``.

    Parameters
    ----------
    model : path, name or Classifier
        As :func:`squeezekit.load_classifier` takes it; a float network.
    out : path
        The file to write, whole or not at all. With `sweep` it may be a folder, one that is there or a name
        without a suffix: every size is written into it, as BYTES.sqz.
    data : path, name or PictureSet, optional
        Pictures to calibrate on, a few hundred, and others to judge by. Labels are not needed to calibrate.
        Without any, noise calibrates, which costs accuracy.
    method : {"best", "deep-compression", "pruning", "svd"}
        "best" is int8 throughout; the others are the papers' and stay in float32.
    max_bytes : int, optional
        Of the whole file.
    max_drop : float, optional
        Percentage points of top-1 that may be lost, or of agreement where there are no labels. A third of the
        pictures that judge chooses the size by it; the figures in the result are of the others.
    sweep : bool
        Try a row of sizes; they are in the result's `attempts`, which is of the largest that is allowed.
    sparsity : float, optional
        For pruning and Deep Compression: the share of weights that shall be zero, 0.7 and 0.6 by default; for
        Deep Compression a network that is pruned already stays as it is.
    bits : int, optional
        For Deep Compression: of the shared values of each layer; by default 8 for convolutions, 5 for linear
        layers.
    initialisation : {"linear", "density", "random"}, optional
        For Deep Compression: where k-means begins.
    energy : float, optional
        For SVD: the share of each layer's sum of squares that is kept, 0.95 by default.
    effort : {"low", "default", "high"}
        On two cores minutes; a quarter of an hour; up to an hour. "low" learns nothing from the pictures.
    coding : {"range", "huffman"}
        Of the weights in the file: "range" is smaller, "huffman" a few times quicker to open.
    classes : path, optional
        A table of class names for a weight file that carries none.
    weights : path, optional
        For an architecture's name.
    preparation : path or name, optional
        For an ``.onnx``, as :func:`squeezekit.load_classifier` takes it.
    most_pictures : int
        To calibrate on, at most.
    seed : int
    console : Console, optional
        For progress bars.
    warn : callable, optional
        Told what the user should know.

    Raises
    ------
    UserError
        Something is not there or does not fit together, or the size cannot be reached. Nothing is written
        then.
    """
    started = time.perf_counter()
    out = Path(out)
    _check(method, max_bytes, max_drop, effort, coding, out, sweep)
    settings = _settings(method, max_bytes, sparsity, bits, initialisation, energy)
    classifier = (
        model
        if isinstance(model, Classifier)
        else load_classifier(model, classes=classes, weights=weights, preparation=preparation)
    )
    if isinstance(classifier, IntegerClassifier):
        raise UserError(f"{model}: is an int8 file already (compress the network that it was made from)")
    pictures = data if isinstance(data, PictureSet) or data is None else open_pictures(data, labelled=False)
    size = classifier.preparation.size
    network = copy.deepcopy(classifier.network).cpu()  # the one that was given stays on its device
    graph = from_torch(network, (classifier.preparation.channels, size, size))
    work = _Work(classifier, graph, method, settings, effort, coding, seed, console)
    if pictures is None:
        if warn:
            warn(
                "no DATA: calibrated on noise and judged by nothing; expect to lose several points of "
                "accuracy (some hundred pictures of the kind, without labels, avoid that)"
            )
        work.material = noise(classifier.preparation, 32, seed)
    else:
        with progress_bar("reading pictures", console) as advance:
            work.material = gather(
                classifier,
                pictures,
                most=most_pictures,
                judges=MOST_JUDGES if max_drop is None else 3 * MOST_JUDGES,  # of which a third chooses
                seed=seed,
                advance=advance,
            )
    judges = Judges(classifier, work.material.judges, work.material.labels)
    work.choosing, reporting = (judges, judges) if max_drop is None else judges.split()
    if max_drop is not None and not len(reporting):
        raise UserError(
            "--max-drop needs --data: the drop is measured on pictures"
            if not len(judges)
            else f"--max-drop: {len(judges)} picture to judge by (it takes some to choose, others to report)"
        )
    if warn and max_drop is not None and max_drop < (finest := 100 / len(work.choosing)):
        warn(
            f"--max-drop {max_drop:g}: {len(work.choosing)} pictures choose the size, and one of them is "
            f"{finest:.2g} points (more pictures tell more finely)"
        )
    tries = work.papers(max_bytes) if method != "best" else work.best(max_bytes, max_drop, sweep)
    chosen = _choose(tries, max_bytes, max_drop, work)
    figures = work.judge(chosen) if max_drop is None else work.measured(chosen, reporting)
    if _is_folder(out, sweep):
        out.mkdir(exist_ok=True)
        for each in tries:
            each.write(out / f"{len(each.content)}.sqz")
    else:
        chosen.write(out)
    return Compression(
        out=str(chosen.file),
        method=method,
        bytes=len(chosen.content),
        original_bytes=4 * graph.parameters,
        parameters=graph.parameters,
        bits_per_weight=8 * len(chosen.content) / sum(n.weights["weight"].size for n in layers(graph)),
        judged=len(reporting),
        agreement=figures.get("agreement"),
        top1=figures.get("top1"),
        original_top1=figures.get("original_top1"),
        top5=figures.get("top5"),
        original_top5=figures.get("original_top5"),
        seconds=time.perf_counter() - started,
        attempts=tuple(each.row() for each in sorted(tries, key=lambda t: len(t.content))),
        stages=chosen.stages,
    )


def _check(
    method: str,
    max_bytes: int | None,
    max_drop: float | None,
    effort: str,
    coding: str,
    out: Path,
    sweep: bool,
) -> None:
    if method not in METHODS:
        raise UserError(f"--method {method}: unknown{suggest(method, METHODS)} ({', '.join(METHODS)})")
    if effort not in EFFORTS:
        raise UserError(f"--effort {effort}: unknown{suggest(effort, EFFORTS)} ({', '.join(EFFORTS)})")
    if coding not in get_args(Coding):
        raise UserError(f"--coding {coding}: unknown ({', '.join(get_args(Coding))})")
    if max_bytes is not None and max_bytes < 1:
        raise UserError(f"--max-bytes {max_bytes}: must be at least 1")
    if max_drop is not None and not (math.isfinite(max_drop) and max_drop >= 0):
        raise UserError(f"--max-drop {max_drop}: must be 0 or more percentage points")
    if method != "best" and (max_drop is not None or sweep):
        raise UserError(f"--method {method}: takes no --max-drop and no --sweep (best does)")
    if method in ("deep-compression", "pruning") and max_bytes is not None:
        raise UserError(f"--method {method}: takes no --max-bytes (--sparsity, or --method best)")
    if out.is_dir() and not sweep:
        raise UserError(f"{out}: is a folder (name the file to write)")
    folder = _is_folder(out, sweep)
    if folder and out.exists() and not out.is_dir():
        raise UserError(
            f"{out}: is a file, not a folder to write every size into (end a file's name in .sqz)"
        )
    if not folder and out.suffix.lower() != ".sqz":
        raise UserError(f"--out {out}: end its name in .sqz (by which other commands know what it is)")
    if not out.parent.exists():
        raise UserError(f"{out}: there is no folder {out.parent}")
    try:  # now, not after a quarter of an hour
        with tempfile.TemporaryFile(dir=out if out.is_dir() else out.parent):
            pass
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error


#: The settings that each method takes.
_SETTINGS = {
    "best": (),
    "svd": ("energy",),
    "pruning": ("sparsity",),
    "deep-compression": ("sparsity", "bits", "initialisation"),
}


def _settings(
    method: str,
    max_bytes: int | None,
    sparsity: float | None,
    bits: int | None,
    initialisation: str | None,
    energy: float | None,
) -> dict[str, Any]:
    """Return the settings that were given, of which each is one that the method takes."""
    given = {"sparsity": sparsity, "bits": bits, "initialisation": initialisation, "energy": energy}
    for name, value in given.items():
        if value is not None and name not in _SETTINGS[method]:
            takers = " and ".join(each for each, takes in _SETTINGS.items() if name in takes)
            raise UserError(f"--{name}: not for --method {method} (for {takers})")
    if sparsity is not None and not 0 <= sparsity < 1:
        raise UserError(f"--sparsity {sparsity:g}: must be a share from 0 to less than 1")
    if energy is not None and not 0 < energy <= 1:
        raise UserError(f"--energy {energy:g}: must be a share above 0, at most 1")
    if energy is not None and max_bytes is not None:
        raise UserError("--energy and --max-bytes: take one (the bytes decide how much energy is kept)")
    if bits is not None and not 1 <= bits <= 8:
        raise UserError(f"--bits {bits}: must be from 1 to 8")
    if initialisation is not None and initialisation not in get_args(Initialisation):
        raise UserError(f"--initialisation {initialisation}: unknown ({', '.join(get_args(Initialisation))})")
    return {name: value for name, value in given.items() if value is not None}


def _is_folder(out: Path, sweep: bool) -> bool:
    """Whether all files of a sweep go there, not one."""
    return sweep and (out.is_dir() or not out.suffix)


def _choose(tries: list[_Try], max_bytes: int | None, max_drop: float | None, work: _Work) -> _Try:
    """The largest file within the bytes; of those within the drop the smallest."""
    small = sorted(tries, key=lambda each: len(each.content))
    if max_bytes is not None:
        fitting = [each for each in small if len(each.content) <= max_bytes]
        if not fitting:
            raise UserError(
                f"--max-bytes {max_bytes:,}: not reached (the smallest tried takes {len(small[0].content):,})"
            )
        small = fitting
    if max_drop is not None:
        lost = [drop(work.judge(each)) for each in small]
        good = [each for each, points in zip(small, lost, strict=True) if points <= max_drop]
        if not good:
            least = min(lost)
            raise UserError(
                f"--max-drop {max_drop:g}: not reached{' within --max-bytes' if max_bytes else ''} "
                f"(the closest loses {least:.2f} points at {len(small[lost.index(least)].content):,} bytes)"
            )
        return good[0]
    return small[-1]


@dataclass
class _Work:
    """One network on its way."""

    classifier: Classifier
    graph: Graph
    method: str
    settings: dict[str, Any]
    effort: str
    coding: Coding
    seed: int
    console: Console | None
    material: Material = field(init=False)
    choosing: Judges = field(init=False)
    _whole: Graph | None = None
    _calibrated: Calibrated | None = None

    def __post_init__(self) -> None:
        """Complain of a network that has no integer form before any work is done."""
        if self.method == "best":
            self._whole = canonical(self._prepared())

    @property
    def learns(self) -> bool:
        """Whether there are pictures enough to learn from, and time."""
        return self.material.learners is not None and EFFORTS[self.effort][1] > 0

    def _prepared(self) -> Graph:
        """Return the network with its preparation: it takes the picture's own bytes."""
        preparation = self.classifier.preparation
        return prepare(
            self.graph,
            preparation.mean,
            preparation.scale,
            reverse_channels=preparation.channel_order == "BGR",
        )

    # -- best

    def best(self, max_bytes: int | None, max_drop: float | None, sweep: bool) -> list[_Try]:
        assert self._whole is not None
        if max_bytes is not None:
            # Before a minute is spent: one picture tells the ranges, and so the bytes, nearly.
            self._floor(outline(self._whole, self.material.calibration[:1]), max_bytes, 0.9)
        with progress_bar("calibrating", self.console) as advance:
            self._calibrated = calibrate(self._whole, self.material.calibration, advance, seed=self.seed)
        if sweep:
            start = self._price(LOSS)
            return [self._try(start * 4.0**k) for k in (-2, -1, 0, 0.5, 1, 1.5, 2, 2.5, 3)]
        if max_bytes is not None:
            return self._to_bytes(max_bytes)
        if max_drop is not None:
            return self._to_drop(max_drop)
        price = self._price(LOSS)
        made = self._rounded(price)
        # Of a network that is sure of its answers the prediction says little: look.
        for _ in range(ATTEMPTS):
            if changes(self._calibrated, made)[0] <= MOST_LOSS:
                break
            price /= 4
            made = self._rounded(price)
        return [self._finished(made, price)]

    def _price(self, loss: float) -> float:
        assert self._calibrated is not None
        with progress_bar("pricing", self.console) as advance:
            return predicted_loss(self._calibrated, loss, advance)

    def _to_bytes(self, most: int) -> list[_Try]:
        """Aim at a size; each miss corrects the aim."""
        assert self._calibrated is not None
        floor = self._floor(self._calibrated, most)
        room = 8.0 * (ROOM * most - floor)
        tries: list[_Try] = []
        start: tuple[Quantized, int] | None = None  # the largest that fits, or the last, and which try it is
        for _ in range(ATTEMPTS):
            with progress_bar("pricing", self.console) as advance:
                price = price_of(self._calibrated, room, advance)
            if tries and abs(math.log(price / tries[-1].price)) < 1e-3:
                break
            made = self._rounded(price)
            tries.append(self._written(made, price))
            size = len(tries[-1].content)
            before = most + 1 if start is None else len(tries[start[1]].content)
            if before > most or before < size <= most:
                start = made, len(tries) - 1
            if NEAR * most <= size <= most:
                break
            room *= (ROOM * most - floor) / max(1, size - floor)
        if self.learns and start is not None:
            made, i = start
            learned = self._learned(
                made, tries[i].price, size=lambda content: (len(content) - floor) / max(1, most - floor)
            )
            tries[i] = self._written(learned, tries[i].price)
        return tries

    def _floor(self, known: Calibrated, most: int, share: float = 1.0) -> int:
        """Return the bytes of the file with every weight zero; complain if `share` of them are too many."""
        floor = len(self.dumps(known.empty().graph(known)))
        if floor * share >= ROOM * most:
            raise UserError(
                f"--max-bytes {most:,}: cannot be reached (with every weight zero the file takes "
                f"{floor:,} bytes, to which weights would come)"
            )
        return floor

    def _to_drop(self, most: float) -> list[_Try]:
        """Go smaller while the drop allows it, larger while it does not, and then into the middle."""
        price = self._price(LOSS)
        tries: list[_Try] = []
        fits, misses = 0.0, math.inf  # the highest price within the drop, the lowest beyond it
        for _ in range(1 + ATTEMPTS):
            tries.append(self._try(price))
            within = drop(tries[-1].figures) <= most
            fits, misses = (max(fits, price), misses) if within else (fits, min(misses, price))
            if misses < CLOSE * fits:
                break
            if misses == math.inf:
                price *= 1.7
            else:
                price = math.sqrt(fits * misses) if fits else price / 2.5
        return tries

    def _try(self, price: float) -> _Try:
        """Make and judge one of several sizes."""
        tried = self._finished(self._rounded(price), price, 1 / ATTEMPTS)
        self.judge(tried)
        return tried

    def _finished(self, made: Quantized, price: float, share: float = 1.0) -> _Try:
        return self._written(self._learned(made, price, share) if self.learns else made, price)

    def _rounded(self, price: float) -> Quantized:
        assert self._calibrated is not None
        with progress_bar("quantizing", self.console) as advance:
            return quantize(self._calibrated, price, EFFORTS[self.effort][0], advance)

    def _written(self, made: Quantized, price: float) -> _Try:
        assert self._calibrated is not None
        graph = made.graph(self._calibrated)
        return _Try(self.dumps(graph), graph, price)

    def _learned(
        self,
        start: Quantized,
        price: float,
        share: float = 1.0,
        size: Callable[[bytes], float] | None = None,
    ) -> Quantized:
        """Learn, with a share of the effort's work: of several sizes each gets little."""
        known, learners = self._calibrated, self.material.learners
        assert known is not None
        assert learners is not None
        batch = learners.batch_size
        # The teacher's answer, and the student's with its two gradients.
        steps = share * min(
            EFFORTS[self.effort][1] / (4 * cost(known.graph).macs * batch), PASSES * len(learners) / batch
        )
        aim = None if size is None else lambda made: size(self.dumps(made.graph(known)))
        with progress_bar("learning", self.console) as advance:
            return learn(
                known,
                start,
                price,
                learners.batches(),
                max(1, round(steps)),
                advance,
                size=aim,
                bfloat16=bf16_pays("auto"),
            )

    # -- the papers' methods

    def papers(self, max_bytes: int | None) -> list[_Try]:
        graph = at_rest(self.graph)
        seen = self.classifier.preparation.normalise(self.material.calibration)
        pictures = np.ascontiguousarray(seen.transpose(0, 3, 1, 2))
        stages = None
        steps = 0 if not len(self.material.judges) else {"low": 0, "default": 200, "high": 1600}[self.effort]
        common: dict[str, Any] = {"teacher": graph, "steps": steps, "batch_size": 16, "seed": self.seed}
        with progress_bar(self.method, self.console) as advance:
            if self.method == "deep-compression":
                sparse = np.mean([(node.dense("weight") == 0).mean() for node in layers(graph)]) > 0.3
                done = deep_compress(
                    graph,
                    pictures=pictures if steps else None,
                    scope="global",
                    advance=advance,
                    **{"sparsity": None if sparse else 0.6, **self.settings},
                    **common,
                )
                made, stages = done.graph, done.stages
            elif self.method == "pruning":
                share = self.settings.get("sparsity", 0.7)
                made = (
                    prune_and_retrain(graph, share, pictures, scope="global", advance=advance, **common)
                    if steps
                    else prune(graph, share, "global")
                )
                stages = {"original": dense_bytes(graph), "pruning": sparse_bytes(made)}
            else:
                energy = self.settings.get("energy", 0.95)
                made = decompose(graph, energy) if max_bytes is None else self._cut(graph, max_bytes)
                if steps:
                    made = retrain(made, pictures, advance=advance, **common)
        return [_Try(self.dumps(made), made, 0.0, stages=stages)]

    def _cut(self, graph: Graph, most: int) -> Graph:
        """Cut ranks until the file fits: it takes fewer bytes than its parameters at 4 each."""
        aim = most * dense_bytes(graph) / len(self.dumps(graph))
        for _ in range(ATTEMPTS):
            made = decompose_to_bytes(graph, int(aim))
            size = len(self.dumps(made))
            if size <= most and (made is graph or size >= NEAR * most):
                break
            aim *= ROOM * most / size
        return made

    # -- what all share

    def dumps(self, graph: Graph) -> bytes:
        """Write the file's bytes."""
        known = self.classifier.classes.known
        metadata = {"made_by": f"squeezekit {__version__}", "network": self.classifier.name}
        metadata |= training_metadata(self.material.training or self.classifier.training)
        return dumps(
            Model(
                graph,
                self.classifier.preparation.to_dict(),
                known.names if known else (),
                known.synsets if known else None,
                metadata,
            ),
            self.coding,
        )

    def judge(self, tried: _Try) -> dict[str, Any]:
        """Measure a candidate on the pictures that choose, once."""
        tried.figures = tried.figures or self.measured(tried, self.choosing)
        return tried.figures

    def measured(self, tried: _Try, judges: Judges) -> dict[str, Any]:
        """Measure a candidate."""
        with progress_bar("judging", self.console) as advance:
            return judges.figures(tried.graph, advance)
