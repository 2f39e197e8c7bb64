"""``squeezekit models``: the table of networks."""

from __future__ import annotations

import json

import pytest

from squeezekit.cli.main import main
from squeezekit.models import create_model, list_models


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["models", "--json"]) == 0
    return json.loads(out.getvalue())  # type: ignore[no-any-return]


def test_json_lists_every_network(rows: list[dict[str, object]]) -> None:
    assert [row["name"] for row in rows] == list_models()
    assert all(set(row) == {"name", "parameters", "megabytes", "input", "paper"} for row in rows)


@pytest.mark.parametrize(
    ("name", "parameters", "size"),
    [
        ("squeezenet1_0", 1_248_424, 224),
        ("alexnet", 60_965_224, 227),
        ("mobilenet_v1", 4_231_976, 224),
        ("efficientnet_b7", 66_347_960, 600),
    ],
)
def test_figures(rows: list[dict[str, object]], name: str, parameters: int, size: int) -> None:
    (row,) = (row for row in rows if row["name"] == name)
    assert row["parameters"] == parameters
    assert row["megabytes"] == round(4 * parameters / 1e6, 3)
    assert row["input"] == size


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in list_models())
    assert "1,248,424" in out
    assert "224 × 224" in out


def test_one_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "squeezenet", "--classes", "10"]) == 0
    out = capsys.readouterr().out
    assert "squeeze_ratio = 0.125" in out
    parameters = sum(each.numel() for each in create_model("squeezenet", num_classes=10).parameters())
    assert f"{parameters:,} for 10 classes" in out


def test_one_network_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "squeezenet1_1", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["parameters"] == 1_235_496
    assert row["metaparameters"]["stem"] == "standard"
    assert row["text"]


def test_an_unknown_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "squeezenet1.1"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "did you mean 'squeezenet1_1'?" in captured.err


@pytest.mark.parametrize("classes", ["0", "-3", "ten"])
def test_an_impossible_number_of_classes(classes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--classes", classes]) == 2
    assert capsys.readouterr().err.startswith("error: squeezekit models: Invalid value for '--classes'")
