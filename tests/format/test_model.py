"""What a model may hold, and how labels are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezekit.errors import UserError
from squeezekit.format import Model, dumps, loads
from squeezekit.format.labels import pack_labels, unpack_labels
from squeezekit.format.library import text_decode, text_encode
from squeezekit.graph.graph import Graph, Node, Tensor

GRAPH = Graph(Tensor("input", (3,)), (Node("r", "relu", ("input",)),), "r")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(texts, max_size=6), st.booleans(), st.dictionaries(texts, texts, max_size=3))
def test_any_labels_come_back(names: list[str], with_synsets: bool, metadata: dict[str, str]) -> None:
    synsets = tuple(f"s {name}" for name in names) if with_synsets else None
    model = Model(GRAPH, {"mean": [0.5, 1e-9], "deep": {"a": None}}, tuple(names), synsets, metadata)
    again = loads(dumps(model))
    assert (again.names, again.synsets) == (model.names, model.synsets)
    assert (again.preparation, again.metadata) == (model.preparation, model.metadata)


@given(st.lists(st.integers(0, 10**8 - 1), unique=True, max_size=30))
def test_wordnet_numbers_come_back_in_any_order(numbers: list[int]) -> None:
    for order in (numbers, sorted(numbers)):
        synsets = tuple(f"n{number:08d}" for number in order)
        assert unpack_labels(pack_labels({}, ("x",) * len(order), synsets))[2] == synsets


def test_a_thousand_names_and_synsets_are_small(shared: object) -> None:
    import csv
    from pathlib import Path

    with (Path(str(shared)) / "data" / "imagenet-classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    text = pack_labels({}, tuple(row["name"] for row in rows), tuple(row["synset"] for row in rows))
    assert len(text_encode(text)) < 7000


@given(st.binary(max_size=3000))
def test_any_text_comes_back(text: bytes) -> None:
    assert text_decode(text_encode(text), "text") == text


def test_a_text_takes_little() -> None:
    text = b"the quick brown fox jumps over the lazy dog; " * 40
    assert len(text_encode(text)) < 100
    assert len(text_encode(bytes(range(256)) * 4)) < 1100
    even = b"a" * 2**21
    assert text_decode(text_encode(even), "text") == even


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]\n0\n-",
        b"{}\n2\n-\none",
        b"{}\n1\n?\none",
        b"{}\nx\n-",
        b"{}\n1\n-\n\\q",
        b"{}\n1\n-\n\\",
        b"{}\n1\nn\none\n-5",
        b"{}\n2\nn\na\nb\n5\n0",
        b"{}\n1\nn\none\n100000000",
        b"\xff\n0\n-",
        b"[" * 100000 + b"\n0\n-",
        b"{}\n-1\n-",
    ],
)
def test_labels_that_are_none(text: bytes) -> None:
    with pytest.raises(UserError, match="the labels: they say something impossible"):
        unpack_labels(text)


def test_what_a_model_refuses() -> None:
    with pytest.raises(UserError, match="2 names but 1 synsets"):
        Model(GRAPH, {}, ("a", "b"), ("c",))
    with pytest.raises(UserError, match="one of the names is 3"):
        Model(GRAPH, {}, (3,))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="half a character"):
        Model(GRAPH, {}, ("\ud800",))
    with pytest.raises(UserError, match="metadata 'a' is 1"):
        Model(GRAPH, {}, (), None, {"a": 1})  # type: ignore[dict-item]
    for value in (float("nan"), object()):
        with pytest.raises(UserError, match="cannot be written as JSON"):
            Model(GRAPH, {"mean": value})
