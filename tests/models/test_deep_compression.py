"""The authors' published file: read right, and safe against every other file."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from squeezekit.errors import UserError
from squeezekit.models import create_model, is_deep_compression, load_weights, read_deep_compression


@pytest.fixture(scope="session")
def published(shared: Path) -> Path:
    return shared / "weights" / "compressed_SqueezeNet.net"


def caffe(path: Path) -> torch.Tensor:
    """Prepare a picture as Caffe does: 256 × 256, centre 227, BGR, less the mean colour."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))
    bgr = pixels[14:241, 14:241, ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    return torch.from_numpy(bgr.transpose(2, 0, 1).copy())[None]


@torch.no_grad()
def test_the_tench(published: Path, shared: Path) -> None:
    network = create_model("squeezenet1_0").eval()
    assert load_weights(network, published) == []
    logits = network(caffe(shared / "data/imagenet-500/n01440764/n01440764_tench.jpg"))[0]
    assert logits[:3].tolist() == pytest.approx([32.448, 23.960, 14.384], abs=1e-2)
    assert logits.argmax() == 0


def test_a_third_of_the_weights_is_left(published: Path) -> None:
    state = read_deep_compression(published)
    weights = [tensor for name, tensor in state.items() if name.endswith("weight")]
    share = sum(int((w != 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert 0.30 < share < 0.36
    assert all(len(w.unique()) <= 256 for w in weights)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())


def test_it_fits_no_other_network_and_a_new_head_stays_as_it_was(published: Path) -> None:
    with pytest.raises(UserError, match="does not fit squeezenet1_1"):
        create_model("squeezenet1_1", weights=published)
    network = create_model("squeezenet1_0", 2)
    before = network.classifier.conv10.weight.clone()
    assert load_weights(network, published) == ["classifier.conv10.weight", "classifier.conv10.bias"]
    assert torch.equal(network.classifier.conv10.weight, before)


def test_recognised_by_its_sizes(published: Path, tmp_path: Path) -> None:
    assert is_deep_compression(published)
    content = published.read_bytes()
    for other in (b"", b"\x89PNG", content[:-1], content + b"\0", bytes(5000), b"\xff" * 700_000):
        file = tmp_path / "other"
        file.write_bytes(other)
        assert not is_deep_compression(file)
    assert not is_deep_compression(tmp_path)
    assert not is_deep_compression(tmp_path / "none")


def damaged(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_deep_compression(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_what_is_wrong_is_told(published: Path, tmp_path: Path) -> None:
    content = published.read_bytes()
    (entries,) = struct.unpack_from("<I", content)
    path = tmp_path / "damaged.net"
    codebook, gaps = 104, 104 + 4 * 256 + 4 * 96 + entries
    assert "first 104 bytes" in damaged(path, content[:50])
    assert "by its own count" in damaged(path, content[:5000])
    assert "larger than" in damaged(path, content * 4)
    assert "claims 4,294,967,295" in damaged(path, b"\xff" * 4 + content[4:])
    assert "no finite number" in damaged(
        path, content[: codebook + 8] + struct.pack("<f", float("nan")) + content[codebook + 12 :]
    )
    assert "not 0" in damaged(path, content[:codebook] + struct.pack("<f", 1.0) + content[codebook + 4 :])
    assert "the gaps lead to" in damaged(path, content[:gaps] + b"\xff" * 7000 + content[gaps + 7000 :])


def check(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    state, message = {}, ""
    tracemalloc.start()
    try:
        state = read_deep_compression(path)
    except UserError as error:
        message = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert "\n" not in message
    assert peak < 32 * 2**20  # the network has 5 MB, the largest layer's positions as much again


@settings(max_examples=60)
@given(data=st.data())
def test_damage_raises_nothing_but_a_user_error(
    published: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(published.read_bytes())
    places = st.one_of(st.integers(0, 103), st.integers(0, len(content) - 1))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    check(tmp_path_factory.getbasetemp() / "flipped.net", bytes(content[:end]))


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 2000), min_size=26, max_size=26),
    tail=st.binary(),
)
def test_hostile_counts_allocate_nothing(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], tail: bytes
) -> None:
    check(tmp_path_factory.getbasetemp() / "hostile.net", struct.pack("<26I", *counts) + tail * 100)


def test_empty_layers_are_a_network_of_zeros(tmp_path: Path) -> None:
    with torch.device("meta"):
        convolutions = [m for m in create_model("squeezenet1_0").modules() if isinstance(m, torch.nn.Conv2d)]
    path = tmp_path / "zeros.net"
    path.write_bytes(bytes(104 + sum(1024 + 4 * m.out_channels for m in convolutions)))
    assert not any(tensor.any() for tensor in read_deep_compression(path).values())
