"""Do ONNX Runtime and squeezekit give the same answers? A .sqz and its QDQ ONNX file, on the same pictures.

    python benchmarks/onnx_agreement.py MODEL.sqz [--data ../shared/data/imagenet-500] [--json]

Runs in .venv-peers (`make peers`). Prints the share of pictures with the same first answer, the share of
logits that differ at all and by how much, and where the differences arise: every operator alone, on exactly
the bytes that the graph's definition (squeezekit.graph.run) gives it, in an ONNX file cut down to that
operator. A byte counts that then differs from the definition's. The pictures for that are those whose logits
differ most; and of a layer's channels those are counted whose multiplier no float32 scale gives back to the
bit.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import squeezekit
from squeezekit.data.picture import open_picture
from squeezekit.data.preparation import Preparation
from squeezekit.export.onnx import to_onnx
from squeezekit.export.onnx_qdq import layer_scales
from squeezekit.format import read
from squeezekit.graph.graph import INPUT, Graph
from squeezekit.graph.run import trace

HERE = Path(__file__).resolve().parents[1]
#: Pictures on which operators are compared one by one.
JUDGES = 8


def session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")  # whole sums without VNNI too
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def channels_first(batch: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))


def by_operator(graph: Graph, model: onnx.ModelProto, batch: np.ndarray) -> list[dict[str, Any]]:
    """Count differing bytes of every node, each fed with the definition's."""
    named = {value.name for value in model.graph.value_info} | {INPUT}
    values = {INPUT: channels_first(batch), **dict(trace(graph, batch))}
    cutter = onnx.utils.Extractor(model)
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for node in graph.nodes:
        if node.name not in named or not set(node.inputs) <= named:  # logits, and what only renames
            continue
        inputs = list(dict.fromkeys(node.inputs))
        part = session(cutter.extract_model(inputs, [node.name]))
        (answer,) = part.run(None, {name: values[name] for name in inputs})
        off = np.abs(answer.astype(np.int32) - values[node.name])
        counts = found[node.op]
        counts[0] += 1
        counts[1] += off.size
        counts[2] += int((off > 0).sum())
        counts[3] = max(counts[3], int(off.max()))
    return [
        {"operator": op, "nodes": n, "bytes": total, "differ": off, "largest": largest}
        for op, (n, total, off, largest) in found.items()
    ]


def multipliers(graph: Graph) -> tuple[int, int]:
    """Count the channels of all layers, and those whose multiplier an engine does not get back."""
    total = missed = 0
    for node in graph.nodes:
        if node.op not in ("conv", "linear"):
            continue
        seen = graph.tensors[node.inputs[0]].quantization
        assert seen is not None
        out = 1.0 if node.quantization is None else node.quantization.scale
        wanted = node.dense("multiplier")
        again = np.float32(seen.scale) * layer_scales(wanted, seen.scale, out) / np.float32(out)
        total += wanted.size
        missed += int((again != wanted)[wanted > 0].sum())
    return total, missed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared" / "data" / "imagenet-500")
    parser.add_argument("--pictures", type=int, default=None, help="how many, from all classes; default: all")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    stored = read(arguments.model)
    exported = to_onnx(stored)
    preparation = Preparation.from_dict(stored.preparation)
    theirs, ours = session(exported), squeezekit.load(arguments.model)
    paths = sorted(
        each for each in arguments.data.rglob("*") if each.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    step = max(1, len(paths) // (arguments.pictures or len(paths)))
    a, b = [], []
    pictures = []
    for path in paths[::step][: arguments.pictures]:
        picture = preparation.geometry(open_picture(path)[1])[None]
        a.append(np.asarray(ours.run(picture)).reshape(-1))
        b.append(theirs.run(None, {"input": channels_first(picture)})[0].reshape(-1))
        pictures.append(picture)
    mine, peer = np.stack(a), np.stack(b)
    off = np.abs(mine - peer)
    most = [pictures[i] for i in np.argsort(-off.max(axis=1), kind="stable")[:JUDGES]]
    inexact = multipliers(stored.graph)
    result = {
        "model": str(arguments.model),
        "pictures": len(mine),
        "same_top1": float((mine.argmax(1) == peer.argmax(1)).mean()),
        "logits_that_differ": float((off > 0).mean()),
        "largest_difference": float(off.max()),
        "largest_to_spread": float(off.max() / mine.std()),
        "operators": by_operator(stored.graph, exported, np.concatenate(most)),
        "channels": inexact[0],
        "channels_not_to_the_bit": inexact[1],
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"same first answer: {result['same_top1']:.1%} of {result['pictures']} pictures")
    print(
        f"logits that differ: {result['logits_that_differ']:.2%}, at most by "
        f"{result['largest_difference']:.3g} ({result['largest_to_spread']:.2g} of their spread)"
    )
    print(f"multipliers not met to the bit: {inexact[1]} of {inexact[0]} channels")
    print("each operator alone, on the same bytes:")
    for row in result["operators"]:
        share = row["differ"] / row["bytes"]
        found = f"{row['differ']} bytes ({share:.2g} of all), at most by {row['largest']}"
        print(f"  {row['operator']:16} {row['nodes']:3} nodes, {found}")


if __name__ == "__main__":
    main()
