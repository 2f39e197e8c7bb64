"""Weights from every kind of file, and clear words about those that do not fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from squeezekit.errors import UserError
from squeezekit.models import (
    create_model,
    from_torchvision,
    load_weights,
    replace_classifier,
    save_checkpoint,
    to_torchvision,
)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in a.state_dict().items())


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(1)
    return create_model("squeezenet1_1", 5)


@pytest.mark.parametrize(
    "kind", ["checkpoint", "own.safetensors", "theirs.safetensors", "theirs.pth", "old.pth"]
)
def test_every_kind_of_file(network, kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    if kind == "checkpoint":
        save_checkpoint(path, network, {"model": network.config})
    elif kind == "own.safetensors":
        save_file(network.state_dict(), path)
    elif kind == "theirs.safetensors":
        save_file(to_torchvision(network), path)
    elif kind == "theirs.pth":
        torch.save({"state_dict": to_torchvision(network), "epoch": 3}, path)
    else:
        torch.save(to_torchvision(network), path, _use_new_zipfile_serialization=False)
    other = create_model("squeezenet1_1", 5)
    assert load_weights(other, path) == []
    assert same(other, network)
    assert same(create_model("squeezenet1_1", 5, weights=path), network)


def test_a_head_of_another_size_is_left_and_named(network, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(network.state_dict(), path)
    other = create_model("squeezenet1_1", 2)
    head = other.classifier.conv10.weight.clone()
    assert load_weights(other, path) == ["classifier.conv10.weight", "classifier.conv10.bias"]
    assert torch.equal(other.classifier.conv10.weight, head)
    assert same(other.features, network.features)


def test_files_that_do_not_fit(network, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(network.state_dict(), path)
    for other, told in (
        (create_model("squeezenet1_1", 5, norm=True), "squeezenet1_1 norm=True: .*missing"),
        (
            create_model("squeezenet1_0", 5),
            r"features\.conv1\.weight is 64 x 3 x 3 x 3 in the file, 96 x 3 x 7 x 7",
        ),
        (create_model("squeezenet1_1", 5, in_channels=1), "64 x 3 x 3 x 3 in the file, 64 x 1 x 3 x 3"),
        (create_model("mobilenet_v2", 5), "does not fit mobilenet_v2"),
    ):
        before = {key: value.clone() for key, value in other.state_dict().items()}
        with pytest.raises(UserError, match=told) as caught:
            load_weights(other, path)
        assert str(caught.value).startswith(f"{path}: ")
        assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


def test_files_of_no_known_kind(network, tmp_path: Path) -> None:
    missing = tmp_path / "none.pth"
    with pytest.raises(UserError, match="no such file"):
        load_weights(network, missing)
    for name, content, told in (
        ("a.jpg", b"\xff\xd8\xff\xe0" * 50, "not a file of weights"),
        ("empty", b"", "not a file of weights"),
        ("a.net", b"1234", "not a sound Deep Compression file|which does not fit"),
        ("a.safetensors", b"", "not a readable safetensors file"),
        ("a.zip", b"PK\x03\x04" + bytes(100), "cannot be read as plain weights"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError, match=told) as caught:
            load_weights(network, path)
        assert "\n" not in str(caught.value)


class Evil:
    """What a hostile pickle would do."""

    def __reduce__(self):
        return (Path.touch, (Path("touched-by-a-pickle"),))


def test_code_in_a_pickle_is_never_run(network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Evil()}, "evil.pth")
    with pytest.raises(UserError, match="cannot be read as plain weights"):
        load_weights(network, "evil.pth")
    assert not (tmp_path / "touched-by-a-pickle").exists()


def test_weights_that_are_no_numbers_are_named(network, tmp_path: Path) -> None:
    state = network.state_dict()
    name = next(iter(state))
    state[name].view(-1)[0] = float("nan")
    for path, save in (("nan.pth", torch.save), ("nan.safetensors", save_file)):
        save(state, tmp_path / path)
        with pytest.raises(UserError, match=f"{path}: {re.escape(name)} holds values that are not finite"):
            load_weights(network, tmp_path / path)


def test_a_pth_without_a_state_dict(network, tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    for content in ([1, 2], {"a": 1}, {1: torch.zeros(1)}, {"state_dict": {"a": "b"}}):
        torch.save(content, path)
        with pytest.raises(UserError, match="holds no state dict"):
            load_weights(network, path)


@settings(max_examples=30)
@given(data=st.data())
def test_a_damaged_pth_raises_nothing_but_a_user_error(tmp_path_factory, data: st.DataObject) -> None:
    tiny = create_model("squeezenet", 2, base_e=4, incr_e=0, fires=1, pools=[1], conv1_channels=4)
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    torch.save(tiny.state_dict(), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.one_of(st.none(), st.integers(0, len(content))))])
    message = ""
    try:
        load_weights(tiny, path)
    except UserError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize(
    "name", ["squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "efficientnet_b0", "efficientnet_b7"]
)
def test_interchange_goes_round(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name, 3)
        theirs = to_torchvision(network)
        again = from_torchvision(name, theirs)
    assert again.keys() == network.state_dict().keys()
    assert len(theirs) == len(again)


def test_interchange_knows_its_limits() -> None:
    with torch.device("meta"):
        with pytest.raises(UserError, match="no such network"):
            to_torchvision(create_model("mobilenet_v1"))
        with pytest.raises(UserError, match="norm=True"):
            to_torchvision(create_model("squeezenet1_0", norm=True))
        other = to_torchvision(create_model("squeezenet1_0"))
    with pytest.raises(UserError, match="not torchvision's weights of squeezenet1_1"):
        from_torchvision("squeezenet1_1", other)
    with pytest.raises(UserError, match="torchvision has no such network"):
        from_torchvision("alexnet", {})


def test_old_files_lack_the_counters_of_batches(tmp_path: Path) -> None:
    network = create_model("mobilenet_v2", 3)
    theirs = {k: v for k, v in to_torchvision(network).items() if not k.endswith("num_batches_tracked")}
    torch.save(theirs, tmp_path / "old.pth")
    assert load_weights(create_model("mobilenet_v2", 3), tmp_path / "old.pth") == []
    theirs.pop("features.0.0.weight")
    with pytest.raises(UserError, match=r"no features\.0\.0\.weight"):
        from_torchvision("mobilenet_v2", theirs)


def test_a_fine_tuned_head_survives_the_round_trip(network, tmp_path: Path) -> None:
    tuned = replace_classifier(create_model("squeezenet1_1", 5), 3)
    save_checkpoint(tmp_path / "t", tuned, {"model": tuned.config})
    assert load_weights(create_model("squeezenet1_1", 3), tmp_path / "t") == []
