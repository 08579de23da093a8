"""A program that scores texts over HTTP, as OpenRLHF asks a remote reward model.

    python -P -m daemon.rm_server RUN|FOLDER [--version N] [--host H] [--port P] [options]

    POST /get_reward   {"query": [text, ...], "prompts": [...], "labels": [...]}
                       ──► {"rewards": [...], "scores": [...], "extra_logs": {name: [...]}}, one of each a query
    GET  /health       what is served, and how much was asked

A query is a whole text, prompt and answer with the marks around them; `labels` are taken and not read. A text that
cannot be scored has null, never 0; where none can, the whole request is refused (422), since programs that ask one by
one know what to do with a refusal and not with null. Without a token only this machine is answered. Nobody's text is
logged. Deliberately left out: what a score is (`trainer.text_judge`), and the daemon, which is not needed.
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import os
import signal
import sys
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET6, socket
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from daemon.beside import choose_device, step_aside
from daemon.log import say_bug
from daemon.program import run_program, told_while
from daemon.worker import set_threads
from ponder.errors import NotFound, PonderError, UsageError
from ponder.output import say, write
from ponder.paths import Paths, checkpoint_name, find_paths, saved_steps
from ponder.recipe import Recipe, read_recipe
from ponder.stage import REWARD_MODEL_CARD, StageKind

if TYPE_CHECKING:
    from trainer.text_judge import TextJudge

TOKEN = "PONDER_RM_TOKEN"
"""The environment variable that holds the token: on a command line everybody could read it."""
LEAST_TOKEN = 16
"""Characters."""
MOST_BODY_BYTES = 16 << 20
MOST_QUERIES = 1024
MOST_AT_ONCE = 64
"""Connections; the next ones wait in the kernel's queue."""
PATIENCE_S = 30.0
"""So long a connection may say nothing."""
ENCODER = msgspec.json.Encoder()


class Asked(Struct, frozen=True):
    """What a program asks; other keys are passed over."""

    query: Annotated[list[str], Meta(min_length=1, max_length=MOST_QUERIES)]
    prompts: list[str | None] | None = None
    labels: list[msgspec.Raw] | None = None


class RequestError(Exception):
    """A request that is refused, with its status."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.hint = status, message, hint


class Desk:
    """Scores what is asked, one request at a time, and counts."""

    def __init__(self, judge: TextJudge, token: str) -> None:
        self._judge, self._token = judge, token
        self._lock = threading.Lock()
        self._counts = {"requests": 0, "queries": 0, "unscored": 0, "refused": 0}

    @property
    def health(self) -> dict[str, object]:
        """What is served, and how much was asked."""
        with self._lock:
            return {"status": "serving", **self._judge.facts, **self._counts}

    def refuse(self) -> None:
        with self._lock:
            self._counts["refused"] += 1

    def admits(self, authorization: str) -> bool:
        """Whether the token is there: as bearer, or as the password that an address `http://x:TOKEN@HOST` sends."""
        if not self._token:
            return True
        kind, _, said = authorization.partition(" ")
        if kind.lower() == "basic":
            with contextlib.suppress(ValueError):
                said = b64decode(said, validate=True).decode("utf-8", "replace").partition(":")[2]
        elif kind.lower() != "bearer":
            return False
        return hmac.compare_digest(said.strip().encode(), self._token.encode())

    def reward(self, body: bytes) -> dict[str, object]:
        """The reply to one request; raises RequestError."""
        from trainer.text_judge import Whole

        asked = _read(body)
        prompts = asked.prompts or [None] * len(asked.query)
        with self._lock:
            try:
                judged = self._judge.judge([Whole(*one) for one in zip(asked.query, prompts, strict=True)])
            except UsageError as error:
                raise RequestError(400, error.message, error.hint) from error
            self._counts["requests"] += 1
            self._counts["queries"] += len(asked.query)
            self._counts["unscored"] += len(judged.reasons)
        if len(judged.reasons) == len(asked.query):
            place, reason = next(iter(judged.reasons.items()))
            raise RequestError(422, f"nothing could be scored: `query` {place}: {reason}")
        return {"rewards": judged.rewards, "scores": judged.rewards, "extra_logs": judged.logs}


def _read(body: bytes) -> Asked:
    """Raises RequestError on what is no request."""
    try:
        asked = msgspec.json.decode(body, type=Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestError(
            400, str(error), 'send {"query": ["text", ...], "prompts": ["its beginning", ...]}'
        ) from error
    for name, values in (("prompts", asked.prompts), ("labels", asked.labels)):
        if values and len(values) != len(asked.query):
            raise RequestError(400, f"`{name}` has {len(values)} entries for {len(asked.query)} of `query`")
    return asked


class Handler(BaseHTTPRequestHandler):
    """Reads a request, within its bounds, and writes the reply."""

    server: Server
    server_version = "ponder"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        self._answer("/health", lambda: self.server.desk.health)

    def do_POST(self) -> None:
        self._answer("/get_reward", lambda: self.server.desk.reward(self._body()))

    def log_message(self, *_: object) -> None:
        """Nothing: a log would hold what people asked."""

    def _answer(self, path: str, reply: Callable[[], Mapping[str, object]]) -> None:
        try:
            if not self.server.desk.admits(self.headers.get("Authorization", "")):
                raise RequestError(401, "the token is missing, or another one", "send `Authorization: Bearer TOKEN`")
            if self.path.partition("?")[0] != path:
                raise RequestError(404, f"there is no `{self.path}`", "POST /get_reward, GET /health")
            self._send(200, reply())
        except RequestError as error:
            self.server.desk.refuse()
            self._send(error.status, {"error": error.message, "hint": error.hint})
        except PonderError as error:  # a version that is gone, a folder that was moved
            self._send(503, {"error": error.message, "hint": error.hint})
        except OSError:  # whoever asked is gone
            self.close_connection = True
        except Exception as error:  # a border: a bug must not end the server
            say_bug(error)
            self._send(500, {"error": "a bug, which the server's own output tells"})

    def _body(self) -> bytes:
        if self.headers.get_content_type() != "application/json":
            raise RequestError(415, "the body must be JSON", "send `Content-Type: application/json`")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise RequestError(411, "the length of the body is missing", "send `Content-Length`")
        if int(length) > MOST_BODY_BYTES:
            raise RequestError(413, f"a body has at most {MOST_BODY_BYTES >> 20} MiB", "send fewer texts at once")
        return self.rfile.read(int(length))

    def _send(self, status: int, content: Mapping[str, object]) -> None:
        body = ENCODER.encode(content)
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status >= 400:  # what is left of the body was not read
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Answers so many connections at once, each in a thread; the model is one at a time."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, host: str, port: int, desk: Desk) -> None:
        """Raises UsageError where it cannot listen."""
        self.desk = desk
        self._places = threading.Semaphore(MOST_AT_ONCE)
        if ":" in host:
            self.address_family = AF_INET6
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            message = f"cannot listen at {host}, port {port}: {error.strerror or error}"
            raise UsageError(message, "choose another `--port`; 0 takes a free one") from error

    def process_request(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        """Wait for a place first: whoever comes next waits in the kernel."""
        self._places.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()


# ---- the program


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line, which `ponder rm serve` has checked."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.rm_server")
    parser.add_argument("what")
    parser.add_argument("--version", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--device", default="")
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args(words)


def check_door(host: str, token: str) -> None:
    """UsageError where others than this machine could ask without a token, or with one that can be guessed."""
    try:
        is_local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_local = False
    if token and len(token) < LEAST_TOKEN:
        raise UsageError(f"the token in {TOKEN} has fewer than {LEAST_TOKEN} characters", "take a longer one")
    if not is_local and not token:
        raise UsageError(
            f"`{host}` can be reached by other machines, and there is no token",
            f"put {LEAST_TOKEN} secret characters or more into {TOKEN}; who asks sends `Authorization: Bearer SECRET`",
        )


def load_judge(paths: Paths, given: argparse.Namespace) -> TextJudge:
    """The folder's reward model; of a run the live one, or what its stage `reward_model` has left."""
    folder = Path(given.what)
    if (folder / REWARD_MODEL_CARD).is_file() or not paths.run_recipe(given.what).is_file():
        return _load_folder(paths, given, folder, "float32")
    recipe = read_recipe(paths.run_recipe(given.what))
    is_training = step_aside(paths, [given.what], recipe.compute.threads, given.threads)
    device = choose_device(given.device, recipe.compute.device, is_training)
    if any(part.stage.kind is StageKind.RL and part.rlhf.live for part in recipe.stages):
        from trainer.sources import live_stage
        from trainer.text_judge import load_live_judge

        stage = live_stage(recipe, paths.checkpoints(given.what))
        return load_live_judge(
            given.what, paths.reward_model(given.what), stage, given.version, device=device, models_folder=paths.models
        )
    left = _left_reward_model(paths, given.what, recipe)
    given.device = device
    return _load_folder(paths, given, left, recipe.compute.dtype)


def _load_folder(paths: Paths, given: argparse.Namespace, folder: Path, dtype: str) -> TextJudge:
    if given.version is not None:
        raise UsageError("only a live reward model has versions", "leave `--version` out")
    set_threads(given.threads)
    from trainer.text_judge import load_folder_judge

    return load_folder_judge(folder, device=given.device or "auto", dtype=dtype, models_folder=paths.models)


def _left_reward_model(paths: Paths, run: str, recipe: Recipe) -> Path:
    """The newest checkpoint of the run that is a reward model's."""
    for step in saved_steps(paths.checkpoints(run)):
        folder = paths.checkpoints(run) / checkpoint_name(step)
        if (folder / REWARD_MODEL_CARD).is_file():
            return folder
    kinds = ", ".join(f"`{part.stage.kind}`" for part in recipe.stages)
    raise NotFound(
        f"`{run}` has no reward model: its stages are {kinds}",
        "a stage `reward_model` leaves one, and `[rlhf] live = true` brings one that learns",
    )


def serve(paths: Paths, given: argparse.Namespace) -> None:
    """Load, listen, and answer until told to end; raises PonderError."""
    token = os.environ.get(TOKEN, "")
    check_door(given.host, token)
    os.environ.setdefault("TQDM_DISABLE", "1")
    with told_while(lambda: f"loading the reward model of {given.what}"):
        judge = load_judge(paths, given)
    server = Server(given.host, given.port, Desk(judge, token))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    host = f"[{given.host}]" if ":" in given.host else given.host
    facts = judge.facts
    version = f", version {facts['version']} of {facts['labels']} rankings" if "version" in facts else ""
    say(f"{facts['kind']} of {facts['model']}{version}; Ctrl-C ends")
    write(f"http://{host}:{server.server_port}/get_reward")
    sys.stdout.flush()
    with server:
        server.serve_forever()


def main(words: list[str]) -> int:
    """Be the program."""
    return run_program(lambda: serve(find_paths(), parse_arguments(words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
