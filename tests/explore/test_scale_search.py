"""The search of constants: a grid, short trainings, and a folder that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezekit.cli import scale
from squeezekit.errors import UserError
from squeezekit.explore.design import Design
from squeezekit.explore.scale_search import Search, Settings, grid, read_bases
from squeezekit.explore.short import ShortTraining

TINY = Design.of(
    "squeezenet",
    32,
    base_e=8,
    incr_e=8,
    conv1_channels=8,
    fires=3,
    pools=(1, 2),
    stem="standard",  # few pixels: a training takes a second
)
SETTINGS = Settings(alphas=(1.0, 1.4), betas=(1.0, 1.2), epochs=1, pictures=64, batch_size=32)


@pytest.fixture(scope="module")
def short() -> ShortTraining:
    return ShortTraining("digits", pictures=64)


@given(st.lists(st.floats(1, 2), min_size=1, max_size=4), st.lists(st.floats(1, 1.4), min_size=1, max_size=4))
def test_the_grid_doubles_the_work(alphas: list[float], betas: list[float]) -> None:
    if min(alphas) * min(betas) ** 2 > 2:
        with pytest.raises(UserError, match="--alphas, --betas"):
            grid(alphas, betas)
        return
    found = grid(alphas, betas)
    assert len({(each.alpha, each.beta) for each in found}) == len(found)
    for each in found:
        assert each.growth == pytest.approx(2, rel=1e-3)
        assert each.alpha in alphas
        assert each.beta in betas


def test_the_default_grid_holds_the_authors_constants() -> None:
    assert any((each.alpha, each.beta) == (1.2, 1.1) for each in grid())
    assert len(grid()) == 14


class _Killed(Exception):
    pass


def test_a_search_that_was_stopped_goes_on(short: ShortTraining, tmp_path: Path) -> None:
    def stop(number: int, *_: object) -> None:
        if number == 2:
            raise _Killed

    search = Search(tmp_path / "a", short, TINY, SETTINGS)
    assert len(search.to_train) == 4  # the baseline and three pairs: 1.4 · 1.2² is more than 2
    with pytest.raises(_Killed):
        search.run(on_result=stop)
    assert len(json.loads((tmp_path / "a" / "search.json").read_text())["trainings"]) == 2

    seen: list[int] = []
    again = Search(tmp_path / "a", short, TINY, SETTINGS)
    again.run(on_result=lambda number, *_: seen.append(number))
    assert seen == [3, 4]
    values = again.to_dict()
    assert json.loads((tmp_path / "a" / "search.json").read_text()) == json.loads(json.dumps(values))
    assert len(values["candidates"]) == 3
    for each in values["candidates"]:
        assert abs(each["flops_ratio"] / 2 - 1) <= 0.1
        assert 0 <= each["test_accuracy"] <= 1
    assert values["reference"]["flops_ratio"] == 1
    assert values["best"]["val_accuracy"] == max(each["val_accuracy"] for each in values["candidates"])

    # What was trained is what a search in one go trains: on a CPU the same to the last bit.
    third = again.to_train[2][0].design
    alone = short.run(third, epochs=1, seed=0, batch_size=32)
    (trained,) = (each for each in again.trainings if each.design == third)
    assert alone.curve == (trained.val_accuracy,)

    # More seeds add to what is there.
    more = Search(tmp_path / "a", short, TINY, Settings(**{**vars(SETTINGS), "seeds": 2}))
    assert len(more.to_train) == 8
    assert len(more.trainings) == 4

    bases, baseline, classes = read_bases(tmp_path / "a")
    assert (baseline, classes) == (TINY, 10)
    assert bases.alpha == values["best"]["alpha"]


def test_a_folder_of_another_search(short: ShortTraining, tmp_path: Path) -> None:
    Search(tmp_path, short, TINY, SETTINGS)._write()
    with pytest.raises(UserError, match="was searched with epochs = 1, not 2"):
        Search(tmp_path, short, TINY, Settings(**{**vars(SETTINGS), "epochs": 2}))
    with pytest.raises(UserError, match="with another network"):
        Search(tmp_path, short, Design.of("mobilenet_v1", 32), SETTINGS)
    with pytest.raises(UserError, match="has no result yet"):
        read_bases(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}'])
def test_a_damaged_file(text: str, short: ShortTraining, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(text)
    with pytest.raises(UserError, match=r"search\.json: (cannot be read|not a search)"):
        Search(tmp_path, short, TINY, SETTINGS)
    with pytest.raises(UserError, match=r"search\.json"):
        read_bases(tmp_path)


def test_equal_networks_are_trained_once(short: ShortTraining, tmp_path: Path) -> None:
    settings = Settings(**{**vars(SETTINGS), "alphas": (1.0, 1.0001), "betas": (1.4,)})
    designs = [scaling.design for scaling, _ in Search(tmp_path, short, TINY, settings).to_train]
    assert len(designs) == len(set(designs))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"phi": 0}, "--phi 0"),
        ({"seeds": 0}, "--seeds 0"),
        ({"epochs": -1}, "--epochs -1: must be more than 0"),
        ({"epochs": 0}, "--epochs 0: must be more than 0"),
    ],
)
def test_settings_that_make_no_search(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        Settings(**settings)


def test_no_epochs_are_not_the_default(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--epochs 0: must be more than 0"):
        scale.search("squeezenet", "digits", tmp_path, epochs=0)
