"""Checkpoints go round, and damaged or foreign files are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from squeezekit.errors import UserError
from squeezekit.models import Network, create_model, load_checkpoint, read_checkpoint, save_checkpoint


def small() -> Network:
    torch.manual_seed(0)
    return create_model("squeezenet", 4, stem="small", base_e=16, incr_e=8, fires=3, pools=(1, 2), norm=True)


def save(path: Path, network: Network, **config: object) -> Path:
    save_checkpoint(path, network, {"format": 1, "model": network.config, **config})
    return path


def test_round_trip(tmp_path: Path) -> None:
    network = small().to(memory_format=torch.channels_last)
    classes, preparation = ["a", "b", "ç", "d"], {"size": 32}
    path = save(tmp_path / "m.safetensors", network, classes=classes, preparation=preparation)

    state, config = read_checkpoint(path)
    assert config == {
        "format": 1,
        "model": network.config,
        "classes": classes,
        "preparation": preparation,
        "training": None,
    }
    assert state.keys() == network.state_dict().keys()

    again, config = load_checkpoint(path)
    assert again.config == network.config
    assert not again.training
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again(x), network.eval()(x))
    again.train()(x).sum().backward()  # the parameters are parameters


def test_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    first = save(tmp_path / "a.safetensors", small()).read_bytes()
    assert save(tmp_path / "b.safetensors", small()).read_bytes() == first


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", small())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        save(path, small(), training={"loss": float("nan")})
    with pytest.raises(ValueError, match="model"):
        save_checkpoint(path, small(), {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_foreign_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_checkpoint(tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, foreign)
    with pytest.raises(UserError, match="not a checkpoint of squeezekit"):
        read_checkpoint(foreign)
    picture = tmp_path / "picture.safetensors"
    picture.write_bytes(b"\xff\xd8\xff" * 100)
    with pytest.raises(UserError, match="not a readable safetensors file"):
        read_checkpoint(picture)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "damaged configuration"),
        ("[" * 100_000, "damaged configuration"),
        ("[]", "damaged configuration"),
        ('{"format": 1}', "damaged configuration"),
        ('{"format": 2, "model": {}}', "update squeezekit"),
    ],
)
def test_damaged_configurations(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"squeezekit": text})
    with pytest.raises(UserError, match=told):
        read_checkpoint(path)


def test_a_configuration_that_does_not_belong_allocates_nothing(tmp_path: Path) -> None:
    huge = small().config | {"metaparameters": {"base_e": 2**14, "incr_e": 2**14, "fires": 200, "pools": []}}
    path = tmp_path / "m.safetensors"
    text = json.dumps({"format": 1, "model": huge})
    save_file(small().state_dict(), path, metadata={"squeezekit": text})
    with pytest.raises(UserError, match="not those of its own configuration"):
        load_checkpoint(path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoint") / "m.safetensors", small(), classes=list("abcd"))


@given(data=st.data())
def test_damage_never_raises_anything_but_a_user_error(checkpoint: Path, data: st.DataObject) -> None:
    content = bytearray(checkpoint.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        # The header is where damage matters; the tensors' bytes may be anything.
        content[data.draw(st.integers(0, 4000))] = data.draw(st.integers(0, 255))
    damaged = checkpoint.with_name("damaged.safetensors")
    damaged.write_bytes(content[: data.draw(st.one_of(st.none(), st.integers(0, len(content))))])
    message = ""
    try:
        load_checkpoint(damaged)
    except UserError as error:
        message = str(error)
    assert "\n" not in message
