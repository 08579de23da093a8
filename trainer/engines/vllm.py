"""The engine `vllm`: a vLLM server that samples over HTTP, and gets the policy's weights after each update.

    once          /version, /v1/models                       which vLLM, and does it have the policy?
    new weights   /pause ─► vLLM's own transfer ─► /update_weight_version ─► /resume
    a batch       /weight_info ─► /v1/completions, one request a prompt ─► /weight_info
    after it      a plain forward pass of the policy itself: entropies, and whether log-probs are anywhere near

The weights travel by vLLM's package (`vllm.distributed.weight_transfer`), which changes every few releases: all that
knows it is `open_transfer`. A version is a word of this attempt's own, so that another trainer's weights are found out,
too; a server too old to keep one is watched by the forward pass alone. What it draws is not reproducible to the bit,
seeds or not: its batches depend on time. Deliberately left out: starting a server, colocation, adapters, previews of
unfinished answers, alternatives, worlds.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any  # Any: vLLM is not there when types are checked

import torch
from packaging.version import InvalidVersion, Version

from ponder.engine import VllmPart
from ponder.errors import EngineError, NoSuchRoute, NotFound, RecipeError
from ponder.events import Finish
from ponder.recipe import Recipe
from trainer.engines.rereading import reread
from trainer.engines.server import HINT, Server
from trainer.policy import Policy
from trainer.sampler import Sampled, TokenListener, tell_whole
from trainer.trail import Trail
from trainer.world import World

log = logging.getLogger(__name__)

LEAST = Version("0.28")
"""The first vLLM whose trainer's side of a weight transfer is an object of its own."""
FAR = 0.5
"""Nats a token: engines that have the same weights stay a twentieth of it apart, in bfloat16."""
AT_ONCE = 64
"""Requests under way at a time; the server batches them."""

Send = Callable[[], None]
"""Brings the present weights to the server."""


class VllmSampler:
    """Samples a policy through a server: a `trainer.sampler.Sampler`."""

    def __init__(
        self, policy: Policy, server: Server, model: str, send: Send, version: Callable[[], int], budget_tokens: int
    ) -> None:
        self.policy, self.server, self.model, self.budget_tokens = policy, server, model, budget_tokens
        self._send, self._version = send, version
        self._attempt = secrets.token_hex(4)
        self._sent: int | None = None
        self._keeps_version = True

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        group_size: int,
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
        listener: TokenListener | None = None,
        alternatives: int = 0,  # noqa: ARG002  # the Protocol's; see above
        trail: Trail | None = None,  # noqa: ARG002
        world: World | None = None,
    ) -> list[Sampled]:
        if world is not None:
            raise ValueError("a server hears no world")
        self._bring_weights()
        self._check_version()
        seeds = torch.randint(2**31, (len(prompts),), generator=generator, device=generator.device).tolist()
        bodies = [
            self._request(list(prompt), group_size, max_new_tokens, temperature, seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        with ThreadPoolExecutor(min(AT_ONCE, len(bodies))) as pool:
            answered = list(pool.map(lambda body: self.server.post("/v1/completions", body), bodies))
        self._check_version()
        drawn = [one for answer in answered for one in self._read(answer, group_size)]
        behind = [list(prompt) for prompt in prompts for _ in range(group_size)]
        again = reread(self.policy, behind, [ids for ids, _, _ in drawn], temperature, self.budget_tokens)
        self._check_distance([logps for _, logps, _ in drawn], [own.logps for own in again])
        for row, (ids, _, _) in enumerate(drawn):
            if listener:
                tell_whole(listener, row, ids, self.policy.end_ids)
        return [
            Sampled(ids, logps, own.entropies, finish) for (ids, logps, finish), own in zip(drawn, again, strict=True)
        ]

    @property
    def _name(self) -> str:
        return f"ponder-{self._attempt}-{self._sent}"

    def _bring_weights(self) -> None:
        if self._sent == self._version():
            return
        self._sent = None
        self.server.post("/pause?mode=wait")
        self._send()  # a server with half of the weights stays paused
        self._sent = self._version()
        try:
            self.server.post("/update_weight_version", {"new_version": self._name})
        except NoSuchRoute:
            if self._keeps_version:
                log.warning("`%s` keeps no version of its weights: only its log-probs tell", self.server.url)
            self._keeps_version = False
        self.server.post("/resume")

    def _check_version(self) -> None:
        if not self._keeps_version:
            return
        told = self.server.get("/weight_info")
        version = told.get("weight_version") if isinstance(told, dict) else None
        if version != self._name:
            raise EngineError(
                f"`{self.server.url}` has the weights `{version}`, and not `{self._name}`, which were sent",
                "does another run send to the same server?",
            )

    def _request(self, prompt: list[int], count: int, tokens: int, temperature: float, seed: int) -> dict[str, Any]:
        """All that a server would otherwise take from the model's own settings is said."""
        return {
            "model": self.model, "prompt": prompt, "n": count, "max_tokens": tokens, "temperature": temperature,
            "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "seed": seed, "logprobs": 1, "stop_token_ids": list(self.policy.end_ids),
            "add_special_tokens": False, "skip_special_tokens": False, "return_token_ids": True,
            "cache_salt": self._name,
        }  # fmt: skip

    def _read(self, answer: Any, count: int) -> list[tuple[list[int], list[float], Finish]]:
        """The answers to one prompt; EngineError where they are not all there or contradict themselves."""
        try:
            choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
            read = [
                ([int(one) for one in choice["token_ids"]], [float(p) for p in choice["logprobs"]["token_logprobs"]])
                for choice in choices
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"`{self.server.url}` answered in words that are not vLLM's: {error!r}", HINT) from None
        if len(read) != count or any(not ids or len(ids) != len(logps) for ids, logps in read):
            raise EngineError(f"`{self.server.url}` answered {len(read)} times of {count}, or not every token", HINT)
        ends = self.policy.end_ids
        return [(ids, logps, Finish.END if ids[-1] in ends else Finish.TRUNCATED) for ids, logps in read]

    def _check_distance(self, sampled: Sequence[list[float]], learnt: Sequence[list[float]]) -> None:
        apart = [
            abs(own - other)
            for one, two in zip(sampled, learnt, strict=True)
            for own, other in zip(one, two, strict=True)
        ]
        mean = sum(apart) / len(apart)
        if not mean < FAR:  # not a number is far, too
            raise EngineError(
                f"`{self.server.url}` samples {mean:.2g} nats a token from the policy: old weights, another model, or "
                "log-probs without the temperature",
                "start it with `--logprobs-mode processed_logprobs`; docs/ENGINES.md has the whole command",
            )


def open_server(policy: Policy, recipe: Recipe, version: Callable[[], int]) -> VllmSampler:
    """The sampler of the recipe's `[vllm]`, once its server has been looked at."""
    part = recipe.vllm
    if recipe.model.lora.rank:
        raise RecipeError(
            "an adapter's weights are not a model's, and a vLLM server takes none other",
            "set `model.lora.rank` to 0, or `sampling.engine` to `local` or `cb`",
        )
    server = Server(part.url, timeout_s=part.timeout_s, tries=part.tries)
    number = _server_version(server)
    model = _pick_model(server, part)
    return VllmSampler(
        policy, server, model, open_transfer(policy, server, part, number), version, recipe.optim.micro_batch_tokens
    )


def _server_version(server: Server) -> Version:
    told = server.get("/version")
    try:
        number = Version(told["version"])
    except (KeyError, TypeError, InvalidVersion):
        raise EngineError(f"`{server.url}` is no vLLM server: it tells no version", HINT) from None
    if number < LEAST:
        raise EngineError(f"`{server.url}` is vLLM {number}, and weights travel as {LEAST} and later do it", HINT)
    return number


def _pick_model(server: Server, part: VllmPart) -> str:
    told = server.get("/v1/models")
    names = [str(one.get("id")) for one in told.get("data", [])] if isinstance(told, dict) else []
    if part.model in names:
        return part.model
    if part.model or len(names) != 1:
        raise EngineError(
            f"`{server.url}` does not serve `{part.model or 'one model alone'}`, but {', '.join(names) or 'nothing'}",
            "write its name as `model` in `[vllm]`",
        )
    return names[0]


def open_transfer(policy: Policy, server: Server, part: VllmPart, number: Version) -> Send:
    """vLLM's own way of bringing the policy's weights to this server."""
    try:
        import vllm
        from vllm.distributed.weight_transfer import (
            HTTPVLLMWeightSyncClient,
            ModuleSource,
            WeightTransferTrainerFactory,
        )
    except ImportError:
        raise NotFound(
            "weights go to a vLLM server by vLLM's own package, which is not installed here",
            f"`pip install vllm=={number}`, or set `sampling.engine` to `local` or `cb`",
        ) from None
    here = Version(vllm.__version__)
    if here.release[:2] != number.release[:2]:
        raise EngineError(
            f"`{server.url}` is vLLM {number}, and here is {here}: the two speak to each other in one release only",
            f"`pip install vllm=={number}`",
        )
    try:
        engine = WeightTransferTrainerFactory.trainer_init(
            init_info=_rendezvous(server, part),
            client=HTTPVLLMWeightSyncClient(server.url, timeout=part.timeout_s),
            source=ModuleSource(policy.model),
        )
    except Exception as error:  # whatever vLLM raises, the run cannot begin
        raise EngineError(f"`{server.url}` opens no way for weights: {error}", HINT) from error

    def send() -> None:
        try:
            engine.send_weights()
        except Exception as error:  # the same, with half of the weights there
            raise EngineError(
                f"the weights did not get to `{server.url}`, which stays paused: {error}",
                "the next attempt sends all of them again",
            ) from error

    return send


def _rendezvous(server: Server, part: VllmPart) -> Any:
    if part.transfer == "ipc":
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        return IPCTrainerInitInfo(rank=0, packed=True)
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
    from vllm.utils.network_utils import get_ip, get_open_port

    workers = int(server.get("/get_world_size")["world_size"])
    return NCCLTrainerInitInfo(
        master_address=get_ip(), master_port=get_open_port(), world_size=workers + 1, rank=0, packed=True
    )
