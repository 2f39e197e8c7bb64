"""What may be scaled: names, and networks that were trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from squeezekit.errors import UserError
from squeezekit.explore.baseline import find_baseline
from squeezekit.explore.stages import work
from squeezekit.models import create_model, save_checkpoint


def test_a_name() -> None:
    found = find_baseline("efficientnet_b3")
    assert (found.design.size, found.classes, found.channels) == (300, 1000, 3)
    found = find_baseline("mobilenet_v1", {"width_mult": 0.5, "resolution_mult": 4 / 7}, classes=7)
    assert (found.design.size, found.classes) == (128, 7)
    assert dict(found.design.metaparameters)["width_mult"] == 0.5


def test_a_run(tmp_path: Path) -> None:
    network = create_model("squeezenet", num_classes=7, stem="small", norm=True, base_e=40, pools=(1, 3))
    preparation = {
        "size": 40,
        "resize": "short-side",
        "resize_to": 40,
        "interpolation": "bilinear",
        "mean": [1.0, 2.0, 3.0],
        "scale": [1.0, 1.0, 1.0],
        "channel_order": "RGB",
    }
    config = {"model": network.config, "preparation": preparation}
    save_checkpoint(tmp_path / "model.safetensors", network, config)
    for name in (tmp_path, tmp_path / "model.safetensors"):
        found = find_baseline(str(name))
        assert (found.design.size, found.classes) == (40, 7)
        # Only what differs from the defaults is said, and what a recipe would choose otherwise.
        names = {key for key, _ in found.design.metaparameters}
        assert names == {"base_e", "pools", "stem", "norm", "dropout"}
        assert work(found.design, 7).parameters == sum(each.numel() for each in network.parameters())
    changed = find_baseline(str(tmp_path), {"base_e": 64}, size=32, classes=3)
    assert (dict(changed.design.metaparameters)["base_e"], changed.design.size, changed.classes) == (
        64,
        32,
        3,
    )


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("squeezenet1.1", "did you mean 'squeezenet1_1'"),
        ("efficientnet_b9", "no such network or run folder"),
        (".", "not a run folder"),
        ("model.sqz", "name the run folder"),
    ],
)
def test_what_is_none(model: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.sqz").write_bytes(b"")
    with pytest.raises(UserError, match=text):
        find_baseline(model)
