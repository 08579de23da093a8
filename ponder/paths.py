"""Where things live: store, runs, models, sockets, logs.

    PONDER_HOME      (default $XDG_DATA_HOME/ponder, else ~/.local/share/ponder)            0700
      ponder.db        the store                                                            0600
      cold/STORE/      the texts and tokens of its old answers, packed (`store.cold`)        0700
      store.toml       what a person wants of it (`ponder.store_file`)
      trackers.toml    where curves are told to other programs (`ponder.tracker_file`)
      metrics.listen   where its metrics are scraped (`ponder.scrape`)
      store.lock       held by the one daemon of this home
      start.lock       held by the command that starts it
      daemon.log
      keys/            who may come in over the network (`ponder.keys`)                      0700
      models/NAME/     what `ponder models get` brings
      runs/RUN/        recipe.toml journal.pj log.txt stack.txt exit.json attempt.lock checkpoints/ sets/
                       features/ reward_model/ trackers/ rankings.pj guidelines.md
    runtime folder   (PONDER_RUNTIME_DIR, else $XDG_RUNTIME_DIR/ponder, else /tmp/ponder-UID) 0700
      HASH.ctl HASH.ingest HASH.feed     ipc sockets; HASH names the home, so that two homes never meet

Socket paths stay short because the kernel allows 107 bytes. Deliberately left out:
what is in them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from ponder.errors import StoreError

MAX_SOCKET_PATH_BYTES = 107
CHECKPOINTS = "checkpoints"
"""The folder of a run's checkpoints, in the run's own."""
_CHECKPOINT = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Paths:
    """All places of one ponder home."""

    home: Path
    runtime: Path

    @property
    def store(self) -> Path:
        return self.home / "ponder.db"

    @property
    def lock(self) -> Path:
        return self.home / "store.lock"

    @property
    def daemon_log(self) -> Path:
        return self.home / "daemon.log"

    @property
    def wishes(self) -> Path:
        return self.home / "notify.toml"

    @property
    def store_file(self) -> Path:
        return self.home / "store.toml"

    @property
    def tracker_file(self) -> Path:
        return self.home / "trackers.toml"

    @property
    def scraped_at(self) -> Path:
        return self.home / "metrics.listen"

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def keys(self) -> Path:
        return self.home / "keys"

    def run(self, run: str) -> Path:
        return self.runs / run

    def journal(self, run: str) -> Path:
        return self.run(run) / "journal.pj"

    def rankings(self, run: str) -> Path:
        """The second copy of what people said of the run's answers."""
        return self.run(run) / "rankings.pj"

    def turn_labels(self, run: str) -> Path:
        """What people said that turns of the run's answers did."""
        return self.run(run) / "turn_labels.pj"

    def run_log(self, run: str) -> Path:
        return self.run(run) / "log.txt"

    def run_recipe(self, run: str) -> Path:
        return self.run(run) / "recipe.toml"

    def checkpoints(self, run: str) -> Path:
        return self.run(run) / CHECKPOINTS

    def checkpoint(self, run: str, step: int) -> Path:
        return self.checkpoints(run) / checkpoint_name(step)

    def features(self, run: str) -> Path:
        return features_beside(self.checkpoints(run))

    def reward_model(self, run: str) -> Path:
        return reward_model_beside(self.checkpoints(run))

    def trackers(self, run: str) -> Path:
        """The lock and the log of what tells the run's curves to other programs."""
        return self.run(run) / "trackers"

    def sets(self, run: str) -> Path:
        return sets_beside(self.checkpoints(run))

    def socket(self, name: str) -> Path:
        """The path of one of the three sockets: `ctl`, `ingest`, `feed`."""
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:10]
        return self.runtime / f"{digest}.{name}"

    def endpoint(self, name: str) -> str:
        """The ZeroMQ endpoint of a socket, or StoreError when the path is too long for the kernel."""
        path = self.socket(name)
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            raise StoreError(
                f"the socket path `{path}` is longer than {MAX_SOCKET_PATH_BYTES} bytes",
                "set PONDER_RUNTIME_DIR to a shorter folder",
            )
        return f"ipc://{path}"


def checkpoint_name(step: int) -> str:
    """What the folder of the checkpoint after `step` is called.

    >>> checkpoint_name(25)
    'step-000025'
    """
    return f"step-{step:06d}"


def saved_steps(checkpoints: Path) -> list[int]:
    """The steps of all checkpoints in a run's folder of them, newest first; a folder with its final name is whole."""
    found = [_CHECKPOINT.fullmatch(path.name) for path in checkpoints.glob("step-*")]
    return sorted((int(match[1]) for match in found if match), reverse=True)


def sets_beside(checkpoints: Path) -> Path:
    """Where a run's sets of examples lie, beside its checkpoints."""
    return checkpoints.parent / "sets"


def features_beside(checkpoints: Path) -> Path:
    """Where the features of a live run's newest answers lie, a file a step."""
    return checkpoints.parent / "features"


def reward_model_beside(checkpoints: Path) -> Path:
    """Where the versions of a run's live reward model lie."""
    return checkpoints.parent / "reward_model"


def find_paths() -> Paths:
    """The places of this user's ponder, from the environment; creates nothing."""
    home = os.environ.get("PONDER_HOME")
    if not home:
        data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
        home = str(Path(data) / "ponder")
    runtime = os.environ.get("PONDER_RUNTIME_DIR")
    if not runtime:
        xdg = os.environ.get("XDG_RUNTIME_DIR")
        runtime = str(Path(xdg) / "ponder") if xdg and os.access(xdg, os.W_OK) else f"/tmp/ponder-{os.getuid()}"
    return Paths(Path(home).expanduser().absolute(), Path(runtime).expanduser().absolute())


def make_private_folder(folder: Path) -> Path:
    """Create `folder` with mode 0700; raise StoreError when it cannot be made or belongs to somebody else."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        what = f"cannot create the folder `{folder}`: {error.strerror or error}"
        raise _explain(
            error, what, "set PONDER_HOME (or PONDER_RUNTIME_DIR) to a folder that you may write to"
        ) from error
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise StoreError(
            f"`{folder}` is not a folder of yours", "set PONDER_RUNTIME_DIR to a folder that belongs to you"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(
            f"the folder `{folder}` cannot be written to", f"run `chmod u+rwx {folder}`, or set PONDER_HOME"
        )
    return folder


def open_private_file(path: Path, flags: int) -> int:
    """A descriptor of a file that only its owner may use, made where there is none; StoreError when that cannot be."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explain_file_error(error, path) from error


def explain_file_error(error: OSError, path: Path) -> StoreError:
    """What the system said when this file was to be written, with a hint."""
    what = f"`{path}` cannot be written: {error.strerror or error}"
    return _explain(error, what, "make it a file of yours or move it away, or set PONDER_HOME")


def _explain(error: OSError, what: str, hint: str) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(what, "free some disk space, or set PONDER_HOME to a larger disk", "disk_full")
    return StoreError(what, hint)


def sync_path(path: Path) -> None:
    """Return when a file, or a folder's list of names, is on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
