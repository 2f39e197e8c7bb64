"""weights="imagenet": fetched once, checked by hash, kept; and one clear error without a network."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from squeezekit.errors import UserError
from squeezekit.models import create_model, published, to_torchvision


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "squeezekit"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve tmp_path/models in place of download.pytorch.org; give the paths asked for."""
    asked: list[str] = []
    folder = tmp_path / "models"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)

        def log_message(self, *args) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setattr(published, "BASE", f"http://127.0.0.1:{httpd.server_port}/")
        yield asked
        httpd.shutdown()


def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> str:
    file = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "models" / file).write_bytes(content)
    monkeypatch.setitem(published.IMAGENET, "squeezenet1_1", file)
    return file


def test_fetched_once_and_loaded(tmp_path: Path, monkeypatch, server: list[str], cache: Path) -> None:
    network = create_model("squeezenet1_1", 4)
    torch.save(to_torchvision(network), tmp_path / "w.pth")
    file = publish(tmp_path, monkeypatch, (tmp_path / "w.pth").read_bytes())

    loaded = create_model("squeezenet1_1", 4, weights="imagenet")
    assert torch.equal(loaded.classifier.conv10.weight, network.classifier.conv10.weight)
    assert [path.name for path in cache.iterdir()] == [file]
    create_model("squeezenet1_1", 4, weights="imagenet")
    assert len(server) == 1

    (cache / file).write_bytes(b"damaged")
    assert published.fetch("squeezenet1_1").read_bytes() == (tmp_path / "w.pth").read_bytes()
    assert len(server) == 2


def test_another_content_is_refused_and_not_kept(tmp_path: Path, monkeypatch, server, cache: Path) -> None:
    file = publish(tmp_path, monkeypatch, b"right")
    (tmp_path / "models" / file).write_bytes(b"wrong")
    with pytest.raises(UserError, match="came with SHA-256"):
        published.fetch("squeezenet1_1")
    assert list(cache.iterdir()) == []


def test_an_endless_answer_is_cut(tmp_path: Path, monkeypatch, server, cache: Path) -> None:
    publish(tmp_path, monkeypatch, bytes(3 * 2**20))
    monkeypatch.setattr(published, "_LARGEST", 2**20)
    with pytest.raises(UserError, match="not the published file"):
        published.fetch("squeezenet1_1")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("base", ["http://127.0.0.1:9/", "http://no-such-host.invalid/"])
def test_without_a_network_one_clear_error(base: str, monkeypatch, cache: Path) -> None:
    monkeypatch.setattr(published, "BASE", base)
    with pytest.raises(
        UserError, match=r"squeezenet1_1-b8a52dc0\.pth: could not be downloaded.*--weights FILE"
    ) as e:
        create_model("squeezenet1_1", 4, weights="imagenet")
    assert "\n" not in str(e.value)
    assert list(cache.iterdir()) == []


def test_a_missing_file_is_told(server, cache: Path) -> None:
    with pytest.raises(UserError, match=r"could not be downloaded.*--weights FILE"):
        published.fetch("mobilenet_v2")


def test_networks_without_published_weights_say_so() -> None:
    with pytest.raises(UserError, match=r"no published ImageNet weights are known.*--weights FILE"):
        create_model("alexnet", 4, stem="small", weights="imagenet")


def test_the_cache_is_under_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert published.cache_folder() == Path.home() / ".cache" / "squeezekit"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says to ignore it
    assert published.cache_folder() == Path.home() / ".cache" / "squeezekit"
