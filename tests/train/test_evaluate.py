from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from squeezekit.errors import UserError
from squeezekit.models import create_model, to_torchvision
from squeezekit.train.classifier import load_classifier
from squeezekit.train.evaluate import evaluate
from squeezekit.train.predict import predict, probabilities, softmax


@pytest.mark.slow
def test_the_authors_weights_reach_their_reference_figures(shared: Path) -> None:
    result = evaluate(
        shared / "weights" / "compressed_SqueezeNet.net",
        shared / "data" / "imagenet-500",
        classes=shared / "data" / "imagenet-classes.csv",
        workers=0,
    )
    assert result.images == 500
    assert abs(result.top1 * 500 - 320) <= 2
    assert abs(result.top5 * 500 - 422) <= 2
    assert result.confusion.sum() == 500
    assert result.confusion.trace() == round(result.top1 * 500)
    assert len(result.per_class) == 500


def test_the_tenchs_first_logits(shared: Path) -> None:
    classifier = load_classifier(shared / "weights" / "compressed_SqueezeNet.net")
    with Image.open(shared / "data" / "imagenet-500" / "n01440764" / "n01440764_tench.jpg") as image:
        logits = classifier.logits(classifier.preparation.geometry(image.convert("RGB"))[None])
    assert logits[0, :3] == pytest.approx([32.448, 23.960, 14.384], abs=1e-2)


def test_a_folder_without_class_and_nameless_weights_are_clear(shared: Path) -> None:
    with pytest.raises(UserError, match=r"no class for 2 folders: ants, bees .*--classes"):
        evaluate(shared / "weights" / "compressed_SqueezeNet.net", shared / "data" / "ants-bees")


def test_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'squeezenet1_1'"):
        load_classifier("squeezenet1.1")
    with pytest.raises(UserError, match="without weights"):
        load_classifier("squeezenet1_1")
    with pytest.raises(UserError, match="not a run folder"):
        load_classifier(tmp_path)
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(UserError, match=r"note\.txt"):
        load_classifier(tmp_path / "note.txt")


def test_weights_with_a_foreign_head_are_not_answered_from_chance(tmp_path: Path) -> None:
    path = tmp_path / "ten.pth"
    torch.save(to_torchvision(create_model("squeezenet1_1", 10)), path)
    with pytest.raises(UserError, match="another number of classes"):
        load_classifier(path)
    torch.save(to_torchvision(create_model("squeezenet1_1", 1000)), path)
    assert load_classifier(path).name == "squeezenet1_1"


def test_thumbnails_are_kept_only_where_wanted(shared: Path) -> None:
    weights = load_classifier(shared / "weights" / "compressed_SqueezeNet.net")
    path = shared / "data" / "imagenet-500" / "n01440764" / "n01440764_tench.jpg"
    assert predict(weights, path)[0].image is not None
    assert predict(weights, path, thumbnails=False)[0].image is None


def test_a_model_agrees_with_itself_on_named_classes(shared: Path, tmp_path: Path) -> None:
    weights = shared / "weights" / "compressed_SqueezeNet.net"
    for folder in sorted((shared / "data" / "imagenet-500").iterdir())[:3]:
        (tmp_path / folder.name).symlink_to(folder)
    table = shared / "data" / "imagenet-classes.csv"
    result = evaluate(weights, tmp_path, classes=table, against=weights, workers=0)
    assert (result.images, result.agreement, result.against_top1) == (3, 1.0, result.top1)
    assert result.to_dict()["agreement"] == 1.0


def test_every_kind_of_picture_gives_the_same_answer(shared: Path) -> None:
    weights = load_classifier(shared / "weights" / "compressed_SqueezeNet.net")
    path = shared / "data" / "imagenet-500" / "n01440764" / "n01440764_tench.jpg"
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
        kinds = [path, str(path), path.read_bytes(), image.convert("RGB"), pixels]
    with path.open("rb") as file:
        found = predict(weights, [*kinds, file], top=2)
    assert len({tuple(p.top) for p in found}) == 1
    assert found[0].top[0][1] > found[0].top[1][1]
    assert len(predict(weights, path, top=3)) == 1


def test_broken_pictures_are_raised_or_reported(shared: Path, tmp_path: Path) -> None:
    weights = load_classifier(shared / "weights" / "compressed_SqueezeNet.net")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        predict(weights, broken)
    with pytest.raises(UserError, match=r"none\.jpg"):
        predict(weights, tmp_path / "none.jpg")
    with pytest.raises(UserError, match="expected uint8"):
        predict(weights, np.zeros((8, 8, 3), np.float32))  # type: ignore[arg-type]
    errors: list[UserError] = []
    assert predict(weights, [broken], on_error=errors.append) == []
    assert len(errors) == 1


def test_softmax_of_large_logits_is_finite() -> None:
    rows = softmax(np.array([[1000.0, 0.0], [0.0, -1000.0]], np.float32))
    assert rows.sum(axis=1) == pytest.approx([1, 1])
    assert np.isfinite(rows).all()


def test_a_picture_and_its_mirror_image_are_averaged(shared: Path) -> None:
    weights = load_classifier(shared / "weights" / "compressed_SqueezeNet.net")
    path = shared / "data" / "imagenet-500" / "n01440764" / "n01440764_tench.jpg"
    with Image.open(path) as image:
        picture = weights.preparation.geometry(image.convert("RGB"))[None]
    other = picture[:, :, ::-1].copy()
    mean = (probabilities(weights, picture) + probabilities(weights, other)) / 2
    assert np.abs(mean - probabilities(weights, picture)).max() > 1e-5
    for batch in (picture, other):
        assert probabilities(weights, batch, mirror=True) == pytest.approx(mean, abs=1e-6)
    shown = predict(weights, path, top=1, mirror=True)[0].top[0][1]
    assert shown == pytest.approx(mean.max(), abs=1e-6)
