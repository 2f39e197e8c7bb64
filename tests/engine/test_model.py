"""The engine from Python: bit for bit what ``graph/run.py`` defines, however it is called."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import squeezekit
from squeezekit.engine import FloatFileError, Model, load
from squeezekit.engine import bench as engine_bench
from squeezekit.engine.library import ISA, library
from squeezekit.engine.room import aligned
from squeezekit.errors import UserError
from squeezekit.format import Model as Stored
from squeezekit.format import dumps
from squeezekit.graph.graph import Graph, Node, Tensor
from squeezekit.graph.run import run

HERE = Path(__file__).parent


def _golden() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", HERE / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = _golden()
KERNELS = [name for name in ISA if name != "best" and library().sqz_isa_available(ISA[name])]


@pytest.fixture(scope="module")
def data() -> bytes:
    return (golden.FOLDER / "fire.sqz").read_bytes()


@pytest.fixture(scope="module")
def model(data: bytes) -> Model:
    return load(data)


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return golden.pictures(golden.fire(), seed=1)


class TestResults:
    @pytest.mark.parametrize("isa", KERNELS)
    @pytest.mark.parametrize("name", golden.NETWORKS)
    def test_golden_files(self, name: str, isa: str) -> None:
        """The bytes that are stored: what a network answers never changes."""
        ours = load(golden.FOLDER / f"{name}.sqz", isa=isa)
        given = np.frombuffer((golden.FOLDER / f"{name}.input").read_bytes(), np.uint8)
        logits = ours.run(given.reshape(2, *ours.info.input))
        assert logits.astype("<f4").tobytes() == (golden.FOLDER / f"{name}.logits").read_bytes()

    @pytest.mark.parametrize("name", golden.NETWORKS)
    def test_golden_files_are_what_is_defined(self, name: str) -> None:
        graph = golden.NETWORKS[name]()
        logits = run(graph, golden.pictures(graph)).reshape(2, -1)
        assert logits.astype("<f4").tobytes() == (golden.FOLDER / f"{name}.logits").read_bytes()
        assert golden.shipped(graph) == (golden.FOLDER / f"{name}.sqz").read_bytes()

    def test_they_use_every_operator(self) -> None:
        from squeezekit.graph.operators import OPERATORS

        used = {node.op for network in golden.NETWORKS.values() for node in network().nodes}
        assert used == {name for name, operator in OPERATORS.items() if operator.in_int8}

    @pytest.mark.parametrize("isa", KERNELS)
    @pytest.mark.parametrize("threads", [1, 2, 3])
    @pytest.mark.parametrize("name", golden.NETWORKS)
    def test_other_pictures_and_threads(self, name: str, threads: int, isa: str) -> None:
        graph = golden.NETWORKS[name]()
        ours = load(golden.shipped(graph), threads=threads, isa=isa)
        for seed in range(3):
            given = golden.pictures(graph, seed + 10)
            np.testing.assert_array_equal(ours.run(given), run(graph, given).reshape(2, -1))

    def test_one_picture_and_several(self, model: Model, batch: np.ndarray) -> None:
        both = model.run(batch)
        assert both.shape == (2, model.info.outputs)
        assert both.dtype == np.float32
        np.testing.assert_array_equal(model.run(batch[1]), both[1])
        assert model.run(batch[:0]).shape == (0, model.info.outputs)
        np.testing.assert_array_equal(model.run(batch, threads=2), both)

    def test_rows_that_lie_apart(self, model: Model, batch: np.ndarray) -> None:
        height, width, channels = model.info.input
        frame = np.zeros((2, height + 4, width + 9, channels), np.uint8)
        inside = frame[:, 2:-2, 5:-4]
        inside[:] = batch
        np.testing.assert_array_equal(model.run(inside), model.run(batch))
        mirrored = batch[:, :, ::-1]
        np.testing.assert_array_equal(model.run(mirrored), model.run(mirrored.copy()))
        upside_down = batch[::-1, ::-1]
        np.testing.assert_array_equal(model.run(upside_down), model.run(upside_down.copy()))
        flat = np.broadcast_to(batch[0, :1], batch[0].shape)
        np.testing.assert_array_equal(model.run(flat), model.run(flat.copy()))

    def test_several_python_threads(self, data: bytes, batch: np.ndarray) -> None:
        shared = load(data)
        expected = shared.run(batch)
        wrong: list[int] = []

        def work(number: int) -> None:
            for i in range(30):
                threads = 2 if (number + i) % 5 == 0 else 1
                if not np.array_equal(shared.run(batch, threads=threads), expected):
                    wrong.append(number)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not wrong

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_a_forked_process_answers_too(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "model.sqz").write_bytes(data)
        program = (
            "import os, sys, numpy as np\nfrom squeezekit.engine import load\n"
            "model = load(sys.argv[1], threads=2)\nx = np.zeros(model.info.input, np.uint8)\n"
            "before = model.run(x)\nchild = os.fork()\nafter = model.run(x)\n"
            "assert (before == after).all()\n"
            "if child:\n    sys.exit(os.waitpid(child, 0)[1])\n"
        )
        words = [sys.executable, "-c", program, str(tmp_path / "model.sqz")]
        assert subprocess.run(words, check=False, timeout=60).returncode == 0


class TestLoad:
    def test_path_bytes_and_file(self, data: bytes, batch: np.ndarray, tmp_path: Path) -> None:
        path = tmp_path / "model.sqz"
        path.write_bytes(data)
        expected = load(data).run(batch)
        with path.open("rb") as file:
            for source in (path, str(path), file, io.BytesIO(data), bytearray(data), memoryview(data)):
                np.testing.assert_array_equal(load(source).run(batch), expected)  # type: ignore[arg-type]
        assert squeezekit.load is load

    def test_what_it_tells(self, model: Model, data: bytes) -> None:
        graph = golden.fire()
        info = model.info
        assert info.input == (27, 27, 3)
        assert info.outputs == 17
        assert info.file == len(data)
        assert info.activations >= info.bound > 0
        steps = model.steps()
        assert len(steps) == info.steps
        assert sum(step.macs for step in steps) == info.macs
        of_convolutions = {step.name: step.shape for step in steps if step.operator == "conv"}
        for node in graph.nodes:
            if node.op == "conv":
                channels, height, width = graph.tensors[node.name].shape
                assert of_convolutions[node.name] == (height, width, channels)
        assert model.names[3] == "class 3 of 17"
        assert model.preparation.size == 27
        assert "27 × 27 × 3" in repr(model)

    @pytest.mark.parametrize(
        ("file", "said"),
        [
            (b"", "not a .sqz file"),
            (b"SQZ\x1a", "it ends too early"),
            (b"GIF89a, a picture of something", "not a .sqz file"),
            ("no/such.sqz", "no/such.sqz: cannot be read"),
            (7, "load: int is no file"),
            (io.StringIO("text"), "opened as text"),
        ],
    )
    def test_no_file_of_ours(self, file: Any, said: str) -> None:
        with pytest.raises(UserError, match=said):
            load(file)

    def test_damaged_files(self, data: bytes) -> None:
        for cut in (*range(0, 100, 7), len(data) // 2, len(data) - 1):
            with pytest.raises(UserError):
                load(data[:cut])
        for place in range(0, len(data), 97):
            harmed = bytearray(data)
            harmed[place] ^= 0x10
            with pytest.raises(UserError):
                load(harmed)  # type: ignore[arg-type]

    def test_a_float32_file(self) -> None:
        graph = Graph(Tensor("input", (3, 8, 8)), (Node("pool", "global_avg_pool", ("input",)),), "pool")
        with pytest.raises(FloatFileError, match=r"float32.*squeezekit evaluate"):
            load(dumps(Stored(graph, {})))

    def test_labels_that_do_not_fit(self) -> None:
        graph = golden.fire()
        wrong = load(dumps(Stored(graph, {"size": 9}, ("one", "two"))))
        wrong.run(golden.pictures(graph))  # what needs no labels works
        with pytest.raises(UserError, match="2 class names for 17 outputs"):
            _ = wrong.names
        with pytest.raises(UserError, match="setting 'resize' is missing"):
            _ = load(dumps(Stored(graph, {"size": 9}))).preparation
        other = {**golden.preparation(graph), "size": 26}
        with pytest.raises(UserError, match="prepared for another network"):
            load(dumps(Stored(graph, other))).predict(np.zeros((9, 9, 3), np.uint8))

    def test_without_names(self) -> None:
        assert load(dumps(Stored(golden.fire(), {}))).names[:2] == ("class 0", "class 1")

    @pytest.mark.parametrize("threads", [0, -1, 257, 1.5, True, "2"])
    def test_threads_that_make_no_sense(self, data: bytes, threads: Any) -> None:
        with pytest.raises(UserError, match="threads="):
            load(data, threads=threads)

    def test_kernels_by_environment(self, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SQUEEZEKIT_ISA", "scalar")
        assert load(data).info.isa == "scalar"
        best = load(data, isa="best").info.isa  # an argument counts more
        monkeypatch.delenv("SQUEEZEKIT_ISA")
        assert load(data).info.isa == best
        monkeypatch.setenv("SQUEEZEKIT_ISA", "avx51")
        with pytest.raises(UserError, match=r"SQUEEZEKIT_ISA=avx51.*did you mean 'avx512'"):
            load(data)

    def test_kernels_that_are_not_here(self, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(ISA, "avx512", 99)
        with pytest.raises(UserError, match="isa=avx512: not on this processor"):
            load(data, isa="avx512")

    def test_memory_begins_where_the_engine_wants_it(self) -> None:
        assert all(aligned(size).ctypes.data % 64 == 0 for size in (0, 1, 63, 64, 4097))
        assert aligned(100).size == 100


class TestRun:
    @pytest.mark.parametrize(
        "given",
        [
            np.zeros((27, 27, 3), np.int8),
            np.zeros((27, 27, 3), np.float32),
            np.zeros((3, 27, 27), np.uint8),
            np.zeros((28, 27, 3), np.uint8),
            np.zeros((27, 27), np.uint8),
            np.zeros((1, 1, 27, 27, 3), np.uint8),
            np.array(5, np.uint8),
            "picture.jpg",
            None,
        ],
    )
    def test_no_such_picture(self, model: Model, given: Any) -> None:
        with pytest.raises(UserError, match="it takes uint8, 27 × 27 × 3"):
            model.run(given)


class TestPredict:
    def test_everything_that_is_a_picture(self, model: Model, tmp_path: Path) -> None:
        pixels = np.random.default_rng(5).integers(0, 256, (40, 50, 3)).astype(np.uint8)
        image = Image.fromarray(pixels)
        path = tmp_path / "picture.png"
        image.save(path)
        expected = model.predict(pixels, top=3)
        assert [round(share, 6) for _, share in expected] == sorted(
            (round(share, 6) for _, share in expected), reverse=True
        )
        content = path.read_bytes()
        with path.open("rb") as file:
            sources = [path, str(path), content, image, pixels, file]
            assert model.predict(sources, top=3) == [expected] * 6
        assert model.predict(np.stack([pixels, pixels]), top=3) == [expected] * 2

    def test_probabilities(self, model: Model) -> None:
        answer = model.predict(np.zeros((30, 30, 3), np.uint8), top=100)
        assert len(answer) == 17
        assert {name for name, _ in answer} == set(model.names)
        assert sum(share for _, share in answer) == pytest.approx(1)

    @pytest.mark.parametrize(
        "given", [b"nothing", np.zeros((4, 4), np.float32), np.zeros((0, 4, 3), np.uint8), 3]
    )
    def test_no_picture(self, model: Model, given: Any) -> None:
        with pytest.raises(UserError, match="picture 1: "):
            model.predict(given)
        with pytest.raises(UserError, match="picture 2: "):
            model.predict([np.zeros((4, 4, 3), np.uint8), given])


class TestBench:
    def test_figures(self, model: Model, data: bytes, tmp_path: Path) -> None:
        times = engine_bench.latency(model, seconds=0.01, threads=2)
        assert 0 < times["min_ms"] <= times["median_ms"] <= times["p95_ms"]
        rows = engine_bench.layers(model, seconds=0.01)
        assert [row["name"] for row in rows] == [step.name for step in model.steps()]
        assert sum(row["share_of_time"] for row in rows) == pytest.approx(1)
        assert max(row["share_of_peak"] or 0 for row in rows) == 1
        (tmp_path / "model.sqz").write_bytes(data)
        cold = engine_bench.cold_start(tmp_path / "model.sqz", runs=1)
        assert 0 < cold["open_ms"] < cold["process_ms"]
        with pytest.raises(UserError, match="no answer from a new process"):
            engine_bench.cold_start(tmp_path / "missing.sqz", runs=1)


def _loaded_by(statement: str, *words: str) -> set[str]:
    code = f"import sys\n{statement}\nsys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


class TestSmallInstall:
    def test_a_prediction_loads_numpy_and_pillow_alone(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "model.sqz").write_bytes(data)
        Image.new("RGB", (30, 40)).save(tmp_path / "picture.jpg")
        words = (str(tmp_path / "model.sqz"), str(tmp_path / "picture.jpg"))
        loaded = _loaded_by("import squeezekit; squeezekit.load(sys.argv[1]).predict(sys.argv[2])", *words)
        assert "PIL.Image" in loaded
        assert not loaded & {
            "torch",
            "rich",
            "typer",
            "squeezekit.graph",
            "squeezekit.format.file",
            "difflib",
        }

    def test_the_command_does_without_torch(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "model.sqz").write_bytes(data)
        Image.new("RGB", (30, 40)).save(tmp_path / "picture.jpg")
        program = (
            "import sys\nsys.modules['torch'] = None\nfrom squeezekit.cli.main import main\n"
            "sys.exit(main(sys.argv[1:]))"
        )
        model, picture, sheet = (str(tmp_path / name) for name in ("model.sqz", "picture.jpg", "sheet.png"))
        for words in (
            ["predict", model, picture, "--json", "--top", "2", "--out", sheet],
            ["bench", model, "--json", "--seconds", "0.01", "--no-cold"],
        ):
            done = subprocess.run(
                [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)
        assert Path(sheet).exists()
        words = ["bench", model, "--seconds", "0.01", "--no-cold"]
        done = subprocess.run(
            [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
        )
        assert "GMAC/s" in done.stdout, done.stderr
