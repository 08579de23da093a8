"""Who may talk to a daemon over the network: the daemon's own pair of keys, and the list of those who are let in.

    HOME/keys/              0700
      server.json           the daemon's pair                                          0600
      listen                HOST:PORT where it serves; without the file, nowhere       0600
      allowed/NAME.json     a client's public key and its role                         0600
      secrets/NAME.json     all that the client needs, to be carried to its machine    0600

The folder is the list: whoever changes a file has changed who is let in, and a daemon that runs sees it before the next
message. Keys are CURVE's (Curve25519), as text of 40 characters. Nothing here prints a secret, and no repr shows one.
Deliberately left out: sockets (`ponder.remote`, `daemon.gate`), and which request takes which role (`daemon.gate`).
"""

from __future__ import annotations

import os
import re
import stat
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from ponder.errors import NotFound, Refused, StoreError, UsageError
from ponder.hidden import View
from ponder.paths import explain_file_error, make_private_folder, open_private_file

Key = Annotated[str, Meta(min_length=40, max_length=40)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}\Z")]
S = TypeVar("S", bound=Struct)


class Role(StrEnum):
    """What a key may do; each may do what those before it may, but for `sample`."""

    OBSERVE = "observe"
    """Look at everything."""
    RATE = "rate"
    """Judge answers: star, flag and note them."""
    OPERATE = "operate"
    """Turn knobs, pause, resume, stop and save runs that are there."""
    SAMPLE = "sample"
    """Draw answers for runs that take workers: look at everything, get the weights; of the others only `admin` may."""
    ADMIN = "admin"
    """Everything: also start runs, whose recipes may name code, and end the daemon."""

    def includes(self, other: Role) -> bool:
        """Whether this role may do what the other may.

        >>> Role.OPERATE.includes(Role.OBSERVE), Role.OBSERVE.includes(Role.OPERATE)
        (True, False)
        >>> Role.SAMPLE.includes(Role.OBSERVE), Role.SAMPLE.includes(Role.RATE), Role.ADMIN.includes(Role.SAMPLE)
        (True, False, True)
        """
        if self is Role.SAMPLE:
            return other in (Role.SAMPLE, Role.OBSERVE)
        order = list(Role)
        return order.index(self) >= order.index(other)


class Pair(Struct, frozen=True):
    """The daemon's own keys."""

    public: Key
    secret: Key

    def __repr__(self) -> str:
        return f"Pair({self.public!r})"


class Allowed(Struct, frozen=True):
    """A client that is let in."""

    name: Name
    role: Role
    public: Key
    added_us: int
    thoughts: View = View.RAW
    """How much of an answer it is sent."""


class ClientKey(Struct, frozen=True):
    """What a client needs to be let in, and to know the daemon when it meets it."""

    name: Name
    server: Key
    """The daemon's public key: whoever has another one is not the daemon."""
    public: Key
    secret: Key

    def __repr__(self) -> str:
        return f"ClientKey({self.name!r})"


class KeyRing:
    """The folder of keys of one home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def secret_file(self, name: str) -> Path:
        return self.folder / "secrets" / f"{name}.json"

    def add(self, name: str, role: Role, thoughts: View = View.RAW) -> Path:
        """Let a new client in; the file that it needs.

        Raises Refused when the name is taken, UsageError when who may do more than look is to see less than all.
        """
        import zmq  # 30 ms that only this needs

        if thoughts is not View.RAW and role is not Role.OBSERVE:
            raise UsageError(
                f"a key that may {role} reads what it judges and turns, and not `{thoughts}` alone",
                f"`ponder key add {name} --role observe --thoughts {thoughts}`",
            )

        allowed = self._allowed_file(name)
        if allowed.exists():
            raise Refused("conflict", f"there is a key `{name}` already", f"`ponder key revoke {name}` takes it away")
        public, secret = (key.decode() for key in zmq.curve_keypair())
        for folder in (self.folder, allowed.parent, self.secret_file(name).parent):
            make_private_folder(folder)
        _write(self.secret_file(name), ClientKey(name, self.server_pair().public, public, secret))
        _write(allowed, Allowed(name, role, public, time.time_ns() // 1000, thoughts))
        return self.secret_file(name)

    def revoke(self, name: str) -> Allowed:
        """Let this client in no more; raises NotFound."""
        allowed = self._allowed_file(name)
        try:
            revoked = _read(allowed, Allowed)
            allowed.unlink()
        except FileNotFoundError:
            raise NotFound(f"there is no key `{name}`", "`ponder key list` names them") from None
        except OSError as error:
            raise explain_file_error(error, allowed) from error
        self.secret_file(name).unlink(missing_ok=True)
        return revoked

    def allowed(self) -> list[Allowed]:
        """All who are let in, by name; a file that cannot be read lets nobody in, and is an error."""
        return [_read(path, Allowed) for path in sorted((self.folder / "allowed").glob("*.json"))]

    def server_pair(self) -> Pair:
        """The daemon's own pair, made when it is first needed."""
        import zmq

        path = self.folder / "server.json"
        try:
            return _read(path, Pair)
        except FileNotFoundError:
            public, secret = (key.decode() for key in zmq.curve_keypair())
            _write(path, Pair(public, secret))
        return _read(path, Pair)

    def address(self) -> str:
        """Where the daemon is to serve, as HOST:PORT; empty for nowhere."""
        try:
            return (self.folder / "listen").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    def listen(self, address: str) -> None:
        """Have the daemon serve at HOST:PORT, or nowhere; Refused while nobody would be let in."""
        if not address:
            (self.folder / "listen").unlink(missing_ok=True)
            return
        parse_address(address)
        if not self.allowed():
            raise Refused("conflict", "nobody would be let in: there is no key", "`ponder key add NAME --role observe`")
        _write_bytes(self.folder / "listen", f"{address}\n".encode())

    def changed_ns(self) -> tuple[int, ...]:
        """When the list and the address were last changed, by the file system's clock."""
        return tuple(map(_changed_ns, (self.folder, self.folder / "allowed")))

    def _allowed_file(self, name: str) -> Path:
        try:
            msgspec.convert(name, Name)
        except msgspec.ValidationError:
            hint = "letters, digits, `.`, `-` and `_`, at most 40"
            raise UsageError(f"`{name}` cannot be the name of a key", hint) from None
        return self.folder / "allowed" / f"{name}.json"


def read_client_key(path: Path) -> ClientKey:
    """The key in a client's file; StoreError when others may read it, or when it is none."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise StoreError(f"others may read the key `{path}`", f"`chmod 600 {path}`; if they did, revoke it")
        return _read(path, ClientKey)
    except OSError as error:
        raise StoreError(
            f"the key `{path}` cannot be read: {error.strerror}", "PONDER_KEY names the file of `ponder key add`"
        ) from error


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, where HOST is a number; raises UsageError.

    >>> parse_address("0.0.0.0:7766"), parse_address("[::1]:7766")
    (('0.0.0.0', 7766), ('::1', 7766))
    """
    import ipaddress  # 5 ms that no other verb needs

    match = re.fullmatch(r"\[?([0-9A-Fa-f:.]+?)\]?:(\d{1,5})", text)
    hint = "for example `--tcp 0.0.0.0:7766`; the port after it is taken too"
    if match is None or not 0 < int(match[2]) < 0xFFFF:
        raise UsageError(f"`{text}` is not HOST:PORT with an address of this machine", hint)
    try:
        ipaddress.ip_address(match[1])
    except ValueError:
        raise UsageError(f"`{match[1]}` is no address of a machine", hint) from None
    return match[1], int(match[2])


def _read(path: Path, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):  # what it says may be a secret: it is not repeated
        raise StoreError(
            f"`{path}` is no file of a key", "`ponder key revoke` and `ponder key add` make it anew"
        ) from None


def _write(path: Path, content: Struct) -> None:
    _write_bytes(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def _write_bytes(path: Path, data: bytes) -> None:
    """All of it or the file as it was, and never for a moment readable by others."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = open_private_file(draft, os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise explain_file_error(error, path) from error


def _changed_ns(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0
