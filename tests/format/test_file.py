"""Whole files: they come back as they were, and nothing else is taken for one."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezekit.errors import UserError
from squeezekit.format import Model, dumps, loads, read, write
from squeezekit.format.file import is_sqz, sections
from squeezekit.graph.graph import Graph, Node, Tensor, same


def assert_same(a: Model, b: Model) -> None:
    assert same(a.graph, b.graph)
    assert a.preparation == b.preparation
    assert (a.names, a.synsets, a.metadata) == (b.names, b.synsets, b.metadata)


@pytest.mark.parametrize("coding", ["range", "huffman"])
def test_what_is_written_is_read(model: Model, coding: str, tmp_path: Path) -> None:
    path = tmp_path / "model.sqz"
    size = write(path, model, coding)  # type: ignore[arg-type]
    assert size == path.stat().st_size
    assert is_sqz(path)
    assert_same(read(path), model)


def test_weights_keep_their_types(model: Model) -> None:
    for node in loads(dumps(model)).graph.nodes:
        original = model.graph.node(node.name)
        assert node.attributes == original.attributes
        for key, weight in node.weights.items():
            assert type(weight) is type(original.weights[key])


def test_equal_models_give_equal_bytes(model: Model) -> None:
    assert dumps(model) == dumps(model) == dumps(loads(dumps(model)))


def test_bytes_do_not_depend_on_threads_or_process(int8_model: Model, tmp_path: Path) -> None:
    write(tmp_path / "a.sqz", int8_model)
    script = "import sys; from squeezekit.format import read, write; write(sys.argv[2], read(sys.argv[1]))"
    for threads in ("1", "2"):
        copy = tmp_path / f"{threads}.sqz"
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "a.sqz"), str(copy)],
            check=True,
            env={"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads, "PATH": ""},
        )
        assert copy.read_bytes() == (tmp_path / "a.sqz").read_bytes()


@pytest.mark.parametrize("coding", ["range", "huffman"])
def test_the_format_has_not_changed(model: Model, coding: str) -> None:
    """What a file of version 1.0 says, it says for ever: other bytes here are another format."""
    data = dumps(model, coding)  # type: ignore[arg-type]
    assert data[:6] == b"SQZ\x1a\x01\x00"
    kind = "int8" if model.graph.is_int8 else "float32"
    assert hashlib.sha256(data).hexdigest()[:16] == GOLDEN[kind, coding]


GOLDEN = {
    ("float32", "range"): "024403bfb50051d8",
    ("float32", "huffman"): "2876cab8bf076ea7",
    ("int8", "range"): "588f4d7be5842d9a",
    ("int8", "huffman"): "d689c5cf840c16ac",
}


def test_every_truncation_is_refused(int8_model: Model) -> None:
    data = dumps(int8_model)
    for size in range(len(data)):
        with pytest.raises(UserError):
            loads(data[:size])
    with pytest.raises(UserError):
        loads(data + b"\0")


def test_every_damaged_byte_is_noticed(int8_model: Model) -> None:
    data = dumps(int8_model)
    assert len(data) < 400
    for place in range(len(data)):
        for flip in (1, 0x80, 0xFF, 0x55):
            damaged = bytearray(data)
            damaged[place] ^= flip
            with contextlib.suppress(UserError):
                assert_same(loads(bytes(damaged)), int8_model)


def mended(data: bytes) -> bytes:
    """The same bytes with checksums that fit: what someone would send who means harm."""
    out = bytearray(data)
    count = out[6]
    at = 8 + 8 * count + 4
    for i in range(count):
        size = int.from_bytes(out[8 + 8 * i : 12 + 8 * i], "little")
        out[12 + 8 * i : 16 + 8 * i] = zlib.crc32(out[at : at + size]).to_bytes(4, "little")
        at += size
    head = 8 + 8 * count
    out[head : head + 4] = zlib.crc32(out[:head]).to_bytes(4, "little")
    return bytes(out)


def test_damage_with_mended_checksums_ends_in_an_error_or_a_network(int8_model: Model) -> None:
    data = dumps(int8_model)
    outcomes = set()
    for place in range(8 + 8 * 4 + 4, len(data)):
        for flip in (1, 0x10, 0xFF):
            damaged = bytearray(data)
            damaged[place] ^= flip
            try:
                assert isinstance(loads(mended(damaged)), Model)
                outcomes.add("network")
            except UserError:
                outcomes.add("error")
    assert outcomes == {"network", "error"}


@given(st.binary(max_size=200), st.data())
@settings(max_examples=150)
def test_made_up_sections(made_up: bytes, data: st.DataObject) -> None:
    graph = Graph(Tensor("input", (3, 4, 4)), (Node("r", "relu", ("input",)),), "r")
    parts = sections(dumps(Model(graph, {})))
    parts[data.draw(st.integers(0, 3))] = made_up
    head = bytearray(b"SQZ\x1a\x01\x00\x04\x00")
    for part in parts:
        head += len(part).to_bytes(4, "little") + bytes(4)
    with contextlib.suppress(UserError):
        assert isinstance(loads(mended(bytes(head) + bytes(4) + b"".join(parts))), Model)


def test_a_small_file_cannot_ask_for_much_memory() -> None:
    weight = np.zeros((4096, 4096), np.float32)
    graph = Graph(Tensor("input", (4096,)), (Node("l", "linear", ("input",), {}, {"weight": weight}),), "l")
    parts = sections(dumps(Model(graph, {})))
    assert len(parts[2]) > 1000
    parts[2] = parts[2][:500]
    head = bytearray(b"SQZ\x1a\x01\x00\x04\x00")
    for part in parts:
        head += len(part).to_bytes(4, "little") + bytes(4)
    hostile = mended(bytes(head) + bytes(4) + b"".join(parts))
    assert len(hostile) < 1000
    tracemalloc.start()
    with pytest.raises(UserError, match="more than a file of its size can hold"):
        loads(hostile)
    assert tracemalloc.get_traced_memory()[1] < 16e6
    tracemalloc.stop()


def test_newer_versions_are_refused_and_newer_minor_versions_read(int8_model: Model) -> None:
    data = bytearray(dumps(int8_model))
    data[5] = 7  # a later minor version
    assert_same(loads(mended(bytes(data))), int8_model)
    data[4] = 2
    with pytest.raises(UserError, match=r"version 2\.7, newer than this squeezekit can read \(update it\)"):
        loads(bytes(data))


def test_what_is_no_file_of_ours(tmp_path: Path) -> None:
    for content in (b"", b"S", b"SQZ", b"PK\x03\x04 a zip", bytes(1000)):
        (tmp_path / "other").write_bytes(content)
        assert not is_sqz(tmp_path / "other")
        with pytest.raises(UserError, match=r"other: not a \.sqz file"):
            read(tmp_path / "other")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "absent.sqz")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


def test_errors_name_the_file_and_nothing_is_half_written(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.sqz"
    data = dumps(model)
    path.write_bytes(data[:-5])
    with pytest.raises(UserError, match=r"m\.sqz: it ends too early \(copy or download it again\)"):
        read(path)
    path.write_bytes(data[:90] + bytes([data[90] ^ 4]) + data[91:])
    with pytest.raises(UserError, match=r"m\.sqz: its checksum does not fit"):
        read(path)
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "no" / "folder.sqz", model)
    with pytest.raises(UserError, match="there is no coding 'rnge'; did you mean 'range'"):
        write(path, model, "rnge")  # type: ignore[arg-type]
    assert path.read_bytes() == data[:90] + bytes([data[90] ^ 4]) + data[91:]
    assert [each.name for each in tmp_path.iterdir()] == ["m.sqz"]
