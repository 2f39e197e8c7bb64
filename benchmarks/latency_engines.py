"""One way to run a network each, behind one face: a file is opened, and a picture answered.

Imports nothing but the engine asked for, so that ``latency.py`` can measure starts. An opener takes the
folder of a network that ``latency.py prepare`` wrote and a number of threads, and returns a function without
arguments that answers the picture and returns the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Answer = Callable[[], Any]


def _squeezekit(folder: str, threads: int, isa: str | None = None) -> Answer:
    import numpy as np

    import squeezekit

    picture = np.load(f"{folder}/picture.npy")
    model = squeezekit.load(f"{folder}/int8.sqz", threads=threads, isa=isa)
    return lambda: model.run(picture)


def _picture(folder: str, name: str) -> Any:
    """The picture with its channels first: "picture" its bytes, "prepared" in float32."""
    import numpy as np

    x = np.load(f"{folder}/{name}.npy")
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if name == "picture" else x


def _onnxruntime(folder: str, threads: int, file: str, picture: str) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    x = _picture(folder, picture)
    session = onnxruntime.InferenceSession(f"{folder}/{file}", options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"input": x})[0]


def _openvino(folder: str, threads: int, file: str, picture: str) -> Answer:
    import openvino

    core = openvino.Core()
    x = _picture(folder, picture)
    model = core.read_model(f"{folder}/{file}")
    model.reshape(list(x.shape))  # for a batch of any size it is slower
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if (
        picture == "prepared"
    ):  # it takes bfloat16 for float32 where the machine has that; here float32 is meant
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def answer() -> Any:
        request.infer()
        return request.get_output_tensor().data

    answer.keep = core, compiled, x  # type: ignore[attr-defined]  (a request does not hold what it uses)
    return answer


def _ncnn(folder: str, threads: int) -> Answer:
    import ncnn
    import numpy as np

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.load_param(f"{folder}/ncnn.param")
    net.load_model(f"{folder}/ncnn.bin")
    picture = np.load(f"{folder}/prepared.npy")[0]
    x = ncnn.Mat(picture).clone()  # its own memory: it does not hold an array

    def answer() -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", x)
        return np.array(extractor.extract("out0")[1])[None]

    return answer


def _torch(folder: str, threads: int) -> Answer:
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    x = torch.from_numpy(np.load(f"{folder}/prepared.npy")).contiguous(memory_format=torch.channels_last)
    network = torch.export.load(f"{folder}/torch.pt2").module()
    for each in (*network.parameters(), *network.buffers()):
        if each.dim() == 4:
            each.data = each.data.contiguous(memory_format=torch.channels_last)

    def answer() -> Any:
        with torch.inference_mode():
            return network(x).numpy()

    return answer


#: Engine and precision, the package that must be there, and how it is opened.
ENGINES: dict[str, tuple[str, str, str, Callable[[str, int], Answer]]] = {
    "squeezekit": ("squeezekit", "int8", "squeezekit", _squeezekit),
    "squeezekit-avx2": ("squeezekit (AVX2)", "int8", "squeezekit", lambda f, n: _squeezekit(f, n, "avx2")),
    "openvino-int8": ("OpenVINO", "int8", "openvino", lambda f, n: _openvino(f, n, "int8.onnx", "picture")),
    "onnxruntime-int8": (
        "ONNX Runtime",
        "int8",
        "onnxruntime",
        lambda f, n: _onnxruntime(f, n, "int8.onnx", "picture"),
    ),
    "openvino-float32": (
        "OpenVINO",
        "float32",
        "openvino",
        lambda f, n: _openvino(f, n, "float32.onnx", "prepared"),
    ),
    "onnxruntime-float32": (
        "ONNX Runtime",
        "float32",
        "onnxruntime",
        lambda f, n: _onnxruntime(f, n, "float32.onnx", "prepared"),
    ),
    "ncnn": ("ncnn", "float32", "ncnn", _ncnn),
    "torch": ("PyTorch", "float32", "torch", _torch),
}


def serve(engine: str, folder: str, threads: int) -> None:
    """Answer when told to: for each line read, answer once and write how many nanoseconds it took.

    The first line written says how the logits correlate with those that the graph's definition gives.
    """
    import sys
    import time

    import numpy as np

    answer = ENGINES[engine][3](folder, threads)
    logits = np.stack([np.asarray(answer()).reshape(-1), np.load(f"{folder}/logits.npy").reshape(-1)])
    print("ready", np.corrcoef(logits)[0, 1], flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):  # not measured: the caches and the threads wake up
            answer()
        started = time.perf_counter_ns()
        answer()
        print(time.perf_counter_ns() - started, flush=True)


def start(engine: str, folder: str, threads: int) -> None:
    """Open a file and answer once; write how many nanoseconds that took after imports."""
    import time
    from importlib import import_module

    import_module("numpy")
    package = import_module(ENGINES[engine][2])
    if engine.startswith("squeezekit"):
        package.load  # noqa: B018  (its names are loaded when first used)
    started = time.perf_counter_ns()
    ENGINES[engine][3](folder, threads)()
    print(time.perf_counter_ns() - started, flush=True)
