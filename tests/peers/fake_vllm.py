"""A vLLM server that is none: the routes that the trainer asks, a policy of its own behind them, and ways to misbehave.

It samples a copy of the policy by ponder's own sampler, so that its log-probs are true of the weights that it has. The
shapes of bodies and answers are those of vLLM 0.29 (`entrypoints/openai`, `entrypoints/serve/dev/rlhf/api_router.py`).
`install` puts a package `vllm` beside it whose transfer goes through this process's memory. Deliberately left out:
speed, batching, and everything that the trainer does not ask.
"""

from __future__ import annotations

import copy
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import ModuleType, SimpleNamespace
from typing import Any  # Any: JSON bodies, and modules that are made here
from urllib.parse import urlsplit

import pytest
import torch

from trainer.policy import Policy
from trainer.sampler import sampler_of

VERSION = "0.29.0"


class FakeVllm(ThreadingHTTPServer):
    """Serves until it is closed; its attributes say how it misbehaves."""

    daemon_threads = True

    def __init__(self, policy: Policy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.policy = Policy(**{**vars(policy), "model": copy.deepcopy(policy.model)})
        with torch.no_grad():
            for weight in self.policy.model.parameters():
                weight.normal_()  # a server starts with weights of its own: `--load-format dummy`
        self.version, self.names = VERSION, ["policy"]
        self.weight_version: str | None = "default"
        self.keeps_version = True
        self.loses_updates = self.forgets_temperature = self.is_paused = False
        self.failures = 0
        """So many requests fail with a server error before one is answered."""
        self.dies_after: int | None = None
        """So many completions are answered before it drops every line."""
        self.heard: list[tuple[str, Any]] = []
        self.lock = Lock()
        self.thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()

    def paths(self) -> list[str]:
        return [path for path, _ in self.heard]

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and body."""
        if path == "/version":
            return 200, {"version": self.version}
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.names]}
        if path == "/get_world_size":
            return 200, {"world_size": 1}
        if path in ("/weight_info", "/update_weight_version") and not self.keeps_version:
            return 404, {"detail": "Not Found"}
        if path == "/weight_info":
            return 200, {"weight_version": self.weight_version}
        if path == "/update_weight_version":
            self.weight_version = body["new_version"]
            return 200, {"success": True}
        if path in ("/pause", "/resume"):
            self.is_paused = path == "/pause"
            return 200, {"status": path[1:]}
        if path in ("/init_weight_transfer_engine", "/start_weight_update", "/update_weights", "/finish_weight_update"):
            return 200, {"message": "done"}
        if path == "/v1/completions":
            return self._complete(body)
        return 404, {"detail": "Not Found"}

    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["model"] not in self.names:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        if self.is_paused:
            return 503, {"error": {"message": "the engine is paused"}}
        drawn = sampler_of(self.policy).sample(
            [body["prompt"]], group_size=body["n"], max_new_tokens=body["max_tokens"],
            temperature=body["temperature"], generator=torch.Generator().manual_seed(body["seed"]),
        )  # fmt: skip
        factor = body["temperature"] if self.forgets_temperature else 1.0
        return 200, {
            "choices": [
                {
                    "index": index,
                    "finish_reason": "stop" if one.ids[-1] in body["stop_token_ids"] else "length",
                    "token_ids": one.ids,
                    "logprobs": {"token_logprobs": [factor * logp for logp in one.logps]},
                }
                for index, one in reversed(list(enumerate(drawn)))
            ]
        }


class _Handler(BaseHTTPRequestHandler):
    server: FakeVllm

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: Any) -> None:
        fake, path = self.server, urlsplit(self.path).path
        with fake.lock:
            fake.heard.append((path, body))
            if fake.failures:
                fake.failures -= 1
                return self._say(500, {"error": "out of breath"})
            if path == "/v1/completions" and fake.dies_after is not None:
                if fake.dies_after == 0:
                    return None  # the line is dropped without a word
                fake.dies_after -= 1
            return self._say(*fake.answer(path, body))

    def _say(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


def install(monkeypatch: pytest.MonkeyPatch, fake: FakeVllm, version: str = VERSION) -> None:
    """A package `vllm` in this process, whose transfer copies the trainer's weights into the fake's policy."""

    class Engine:
        def __init__(self, client: Any, source: Any) -> None:
            self.client, self.source = client, source

        def send_weights(self) -> None:
            for path in ("/start_weight_update", "/update_weights", "/finish_weight_update"):
                fake.heard.append((path, None))
            if not fake.loses_updates:
                fake.policy.model.load_state_dict(self.source.state_dict())

    modules = {
        name: ModuleType(name)
        for name in (
            "vllm", "vllm.distributed", "vllm.distributed.weight_transfer",
            "vllm.distributed.weight_transfer.ipc_engine", "vllm.distributed.weight_transfer.nccl_engine",
            "vllm.utils", "vllm.utils.network_utils",
        )
    }  # fmt: skip
    told: dict[str, dict[str, Any]] = {
        "vllm": {"__version__": version},
        "vllm.distributed.weight_transfer": {
            "HTTPVLLMWeightSyncClient": lambda url, timeout: SimpleNamespace(url=url, timeout=timeout),
            "ModuleSource": lambda model: model,
            "WeightTransferTrainerFactory": SimpleNamespace(
                trainer_init=lambda init_info, client, source: Engine(client, source)  # noqa: ARG005
            ),
        },
        "vllm.distributed.weight_transfer.ipc_engine": {"IPCTrainerInitInfo": SimpleNamespace},
        "vllm.distributed.weight_transfer.nccl_engine": {"NCCLTrainerInitInfo": SimpleNamespace},
        "vllm.utils.network_utils": {"get_ip": lambda: "127.0.0.1", "get_open_port": lambda: 1},
    }
    for name, module in modules.items():
        vars(module).update(told.get(name, {}))
        monkeypatch.setitem(sys.modules, name, module)
