"""The engine `cb`: transformers' continuous batching on the policy's own module, so that there is one copy of weights.

    sample   ids and temperatures into the manager's queue, then its thread runs until all are answered and ends

The manager and its paged cache stay from call to call. Blocks that it keeps for prompts it may see again were computed
by the weights of then, so all of them are evicted before every call. What it draws by is the device's own generator,
seeded for each call from the run's and given back as it was; all requests wait in its queue before its thread begins,
and the cache's size is said and not left to the free memory: the same generator gives the same answers on the same
machine and versions, others than `local` gives.

A group is so many requests of one prompt, of which whole pages are read once; the manager can fork a request, too, but
was seen to wait for ever with more answers of one token than it has room for. Log-probs are those of the processed
logits: over temperature, nothing cut off. Entropies are read again (`trainer.engines.rereading`). It computes in the
weights' own numbers, float32, whatever `compute.dtype` says.
Deliberately left out: previews of unfinished answers, alternatives, worlds, trails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any  # Any: transformers' manager is untyped

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cache import PagedAttentionCache

from ponder.errors import EngineError
from ponder.events import Finish
from trainer.engines.rereading import reread
from trainer.policy import Policy
from trainer.sampler import Sampled, TokenListener, evaluating, tell_whole
from trainer.trail import Trail
from trainer.world import World

ROWS_AT_ONCE = 64
"""Answers that have room in the cache at once; without flash attention a step's mask grows with their square."""
BATCH_TOKENS = 1024
"""Tokens of a step at the most: prompts are read in pieces beyond it."""
PAGE_TOKENS = 32
WAIT_S = 1.0

KNOWN = {one.name for one in fields(ContinuousBatchingConfig)}
PAGE = "page_size" if "page_size" in KNOWN else "block_size"  # its name before transformers 5.23
ATTENTION = "sdpa" if "auto_switch_to_flash" in KNOWN else "paged|sdpa"  # the same
CAN_EVICT = hasattr(PagedAttentionCache, "evict_cached_blocks")


class CbSampler:
    """Samples a policy by continuous batching: a `trainer.sampler.Sampler`."""

    def __init__(self, policy: Policy, budget_tokens: int) -> None:
        """So many positions are forwarded at once when answers are read again."""
        self.policy, self.budget_tokens = policy, budget_tokens
        self._manager: Any = None
        self._blocks = 0

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
            raise ValueError("continuous batching hears no world")
        policy, asked = self.policy, [list(prompt) for prompt in prompts for _ in range(group_size)]
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        rows = min(ROWS_AT_ONCE, len(asked))
        pages = -(-(max(map(len, asked)) + max_new_tokens) // PAGE_TOKENS)
        with evaluating(policy.model), attending(policy.model, ATTENTION), own_chance(policy.device):
            manager = self._prepare(rows * pages)
            torch.manual_seed(seed)
            found = self._run(manager, asked, max_new_tokens, temperature, listener)
        ids = [found[row][0] for row in range(len(asked))]
        again = reread(policy, asked, ids, temperature, self.budget_tokens)
        return [
            Sampled(own, found[row][1], again[row].entropies, _finish(own, policy.end_ids))
            for row, own in enumerate(ids)
        ]

    def _prepare(self, blocks: int) -> Any:
        """The manager, with room for so many blocks and nothing in it."""
        if self._manager is not None and blocks > self._blocks:
            self._manager.destroy()
            self._manager = None
        if self._manager is None:
            self._blocks = blocks
            self._manager = self._make(blocks)
        self._manager.warmup()  # makes its cache where there is none
        if CAN_EVICT:
            self._manager.batch_processor.cache.evict_cached_blocks()
        return self._manager

    def _make(self, blocks: int) -> Any:
        policy = self.policy
        wanted: dict[str, Any] = {
            PAGE: PAGE_TOKENS, "num_blocks": blocks, "max_batch_tokens": BATCH_TOKENS, "return_logprobs": True,
            "max_requests_per_batch": ROWS_AT_ONCE, "auto_switch_to_flash": False, "per_request_processors": True,
            "use_async_batching": False, "allow_block_sharing": CAN_EVICT,
        }  # fmt: skip
        settings = ContinuousBatchingConfig(**{name: value for name, value in wanted.items() if name in KNOWN})
        plain = GenerationConfig(
            do_sample=True, temperature=0.5, top_k=0, top_p=1.0, eos_token_id=list(policy.end_ids),
            pad_token_id=policy.pad_id,
        )  # fmt: skip  # a temperature of 1 would leave none to say with each request
        model: Any = policy.model
        return model.init_continuous_batching(plain, continuous_batching_config=settings)

    def _run(
        self, manager: Any, prompts: list[list[int]], max_new_tokens: int, temperature: float,
        listener: TokenListener | None,
    ) -> dict[int, tuple[list[int], list[float]]]:  # fmt: skip
        """Tokens and log-probs of each row. The thread that draws waits for nobody; this one for each answer."""
        manager.background_thread_status.clear()
        names = manager.add_requests(prompts, max_new_tokens=max_new_tokens, temperature=float(temperature))
        row_of = {name: row for row, name in enumerate(names)}
        found: dict[int, tuple[list[int], list[float]]] = {}
        manager.start()
        try:
            while len(found) < len(row_of):
                result = manager.get_result(timeout=WAIT_S)
                if result is None:
                    if not manager.is_running():
                        raise EngineError("continuous batching ended before all answers were written", HINT)
                    continue
                if result.error is not None:
                    raise EngineError(f"continuous batching failed: {result.error}", HINT)
                row = row_of[result.request_id]
                found[row] = (result.generated_tokens, result.logprobs)
                if listener:
                    tell_whole(listener, row, result.generated_tokens, self.policy.end_ids)
        finally:
            manager.stop(keep_for_next_session=True, hard_stop=len(found) < len(row_of))
            vars(self.policy.model).pop("_cached_continuous_batching_manager", None)  # ours: a copy must not hold it
        return found


HINT = "the log has the engine's own words; `sampling.engine = local` does without it"


def _finish(ids: list[int], end_ids: Sequence[int]) -> Finish:
    return Finish.END if ids[-1] in end_ids else Finish.TRUNCATED


@contextmanager
def attending(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Inside, the model attends as continuous batching knows it."""
    own = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


@contextmanager
def own_chance(device: torch.device) -> Iterator[None]:
    """Whatever is drawn or seeded inside, the device's generator is afterwards as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
