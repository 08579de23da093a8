"""Other programs ask a reward model over HTTP and hear what the trainer would; what is no question is refused."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: parsed JSON

import pytest
import torch

from daemon import rm_server
from daemon.rm_server import TOKEN, Desk, Server, check_door, load_judge, parse_arguments
from ponder.client import child_environment
from ponder.errors import NotFound, UsageError
from ponder.events import GroupScored, Rollout
from ponder.paths import Paths, reward_model_beside
from ponder.recipe import Recipe, dump_recipe, parse_recipe
from ponder.rlhf import PREFERENCE, PREFERENCE_RAW, PREFERENCE_SPREAD
from ponder.wire import RewardModelOrder
from tests.trainer.conftest import RECIPE, make_tiny_model
from tests.trainer.models import policy_of
from tests.trainer.test_loop import go, of, ordering
from tests.trainer.test_reward_model import save
from trainer import builtin
from trainer.features import load_features
from trainer.live_reward import Label, fit, make_basis
from trainer.policy import Policy, load_policy
from trainer.reward_model import make_reward_model
from trainer.reward_versions import write_basis, write_version

LIVE = {
    "rlhf.live": "true", "rlhf.audits": "0", "rlhf.dimensions": "6", "rlhf.heads": "4", "stage.steps": "3",
    "evaluation.every_steps": "0",
}  # fmt: skip
SECRET = "a-secret-of-some-length"


@dataclass
class Home:
    """A ponder home with a live run, a reward model's folder, and what the trainer said of some answers."""

    paths: Paths
    folder: Path
    policy: Policy
    live: list[tuple[str, str, Rollout]]
    """(prompt, whole text, rollout)."""
    learnt: list[tuple[str, str, Rollout]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:
        paths = Paths(tmp_path_factory.mktemp("home"), Path(runtime))
        model = paths.home / "model"
        make_tiny_model().save_pretrained(model)
        builtin.countdown_tokenizer().save_pretrained(model)
        recipe = parse_recipe(RECIPE.format(model=model), "tiny.toml", LIVE)
        policy = load_policy(recipe.model, device="cpu", models_folder=paths.models)
        checkpoints = paths.checkpoints("tiny-1")
        first = go(recipe, paths.run("tiny-0") / "checkpoints")
        sha256, _ = (_fit(recipe, of(first, GroupScored), paths, version) for version in (1, 2))
        told = go(recipe, checkpoints, ordering({1: [RewardModelOrder(1, sha256)]}))
        paths.run_recipe("tiny-1").write_text(dump_recipe(recipe))
        reward_model = make_reward_model(policy_of("llama", seed=9), seed=5)
        reward_model.measure([0.1, 0.5, 0.2, -0.9])
        folder = save(reward_model, paths.home / "judge")
        overrides = {"reward_model.path": str(folder), "reward.model": "1", "stage.steps": "1"}
        judged = go(parse_recipe(RECIPE.format(model=model), "tiny.toml", overrides), paths.home / "other")
        yield Home(paths, folder, policy, _texts(told, policy, 2), _texts(judged, policy, 1))


def _fit(recipe: Recipe, groups: Sequence[GroupScored], paths: Paths, version: int) -> str:
    """A version that likes what the rewards liked, or the opposite; its SHA-256."""
    features = {step: load_features(paths.run("tiny-0") / "features", step) for step in (1, 2, 3)}
    basis = make_basis(torch.cat([found.features_AF for found in features.values() if found]), 6)
    folder = reward_model_beside(paths.checkpoints("tiny-1"))
    labels = []
    for group in groups:
        found = features[group.step]
        assert found is not None
        rows = [found.row(group.group, rollout.index) for rollout in group.rollouts]
        seen_KD = basis.project(torch.stack([row for row in rows if row is not None]))
        ranks = [1000 + (1 if version == 1 else -1) * rollout.length_tokens for rollout in group.rollouts]
        prompt = f"{group.step} {group.group}"
        labels.append(Label(prompt, prompt, group.step, seen_KD, ranks, [False] * len(ranks)))
    return write_version(folder, version, fit(labels, basis, recipe.rlhf, 3), 3, write_basis(folder, basis))


def _texts(link: Any, policy: Policy, step: int) -> list[tuple[str, str, Rollout]]:
    """Each answer of a step as OpenRLHF would send it: the decoded tokens of prompt and answer, special ones too."""
    found = []
    for group in of(link, GroupScored):
        for rollout in group.rollouts if group.step == step else []:
            ids = struct.unpack(f"<{rollout.length_tokens}I", rollout.token_ids)
            whole = [*policy.prompt_ids(group.prompt), *ids]
            found.append((group.prompt, str(policy.tokenizer.decode(whole)), rollout))
    return found


def ask(
    port: int, content: object, *, path: str = "/get_reward", method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:  # fmt: skip
    """(status, reply) of one request."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as line:
        line.request(method, path, body, {"Content-Type": "application/json"} | (headers or {}))
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())


@contextmanager
def serving(home: Home, *words: str, token: str = "") -> Iterator[int]:
    """A server in this process; its port."""
    judge = load_judge(home.paths, parse_arguments(["--threads=1", "--device=cpu", *words]))
    server = Server("127.0.0.1", 0, Desk(judge, token))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked(texts: Sequence[tuple[str, str, Rollout]]) -> dict[str, list[str]]:
    return {
        "query": [text for _, text, _ in texts], "prompts": [prompt for prompt, _, _ in texts],
        "labels": ["" for _ in texts],
    }  # fmt: skip


def test_a_folder_gives_the_trainers_own_scores(home: Home) -> None:
    with serving(home, str(home.folder)) as port:
        status, reply = ask(port, asked(home.learnt))
        expected = [rollout.parts["model"] for _, _, rollout in home.learnt]
        assert status == 200 and len(expected) == 12 and len(set(expected)) > 6
        assert reply["rewards"] == pytest.approx(expected, abs=1e-5)
        assert reply["scores"] == reply["rewards"]
        without = {"query": [text for _, text, _ in home.learnt]}
        assert ask(port, without)[1]["rewards"] == pytest.approx(expected, abs=1e-5)
        one = {"query": without["query"][:1], "prompts": [""], "labels": [None]}
        assert ask(port, one)[1]["rewards"] == pytest.approx(expected[:1], abs=1e-5)
        assert len(reply["extra_logs"]["raw"]) == 12
        health = ask(port, b"", path="/health", method="GET")[1]
        assert health["status"] == "serving" and health["requests"] == 3 and health["queries"] == 25


def test_a_run_gives_what_its_live_reward_model_says_in_the_trainer(home: Home) -> None:
    with serving(home, "tiny-1", "--version=1") as port:
        status, reply = ask(port, asked(home.live))
        assert status == 200, reply
        for name, values in (
            (PREFERENCE, reply["rewards"]),
            (PREFERENCE_RAW, reply["extra_logs"][PREFERENCE_RAW]),
            (PREFERENCE_SPREAD, reply["extra_logs"][PREFERENCE_SPREAD]),
        ):
            assert values == pytest.approx([rollout.parts[name] for _, _, rollout in home.live], abs=1e-5)
        assert reply["extra_logs"]["version"] == [1.0] * 12
        status, refused = ask(port, {"query": [home.live[0][1]]})
        assert status == 400 and "where an answer begins" in refused["error"]
        status, refused = ask(port, {"query": [home.live[0][1]], "prompts": ["another one :"]})
        assert status == 400 and "does not begin with its prompt" in refused["error"]


def test_a_newer_version_is_taken_as_soon_as_it_is_there(home: Home) -> None:
    newest = reward_model_beside(home.paths.checkpoints("tiny-1")) / "version-000002.safetensors"
    hidden = newest.with_suffix(".hidden")
    newest.rename(hidden)
    with serving(home, "tiny-1") as port:
        one = ask(port, asked(home.live))[1]
        assert one["extra_logs"]["version"] == [1.0] * 12
        hidden.rename(newest)
        other = ask(port, asked(home.live))[1]
        assert other["extra_logs"]["version"] == [2.0] * 12
        assert ask(port, b"", path="/health", method="GET")[1]["version"] == 2
    pairs = torch.tensor([one["rewards"], other["rewards"]])
    assert torch.corrcoef(pairs)[0, 1] < -0.5


def test_what_cannot_be_scored_is_null_and_never_zero(home: Home) -> None:
    long = " ".join(["1"] * 200)
    for words, prompts in (([str(home.folder)], None), (["tiny-1"], ["3 :", "1 1", "3 7 :"])):
        with serving(home, *words) as port:
            request = {"query": ["3 : 1 + 2", long, "3 7 : 5"], "prompts": prompts}
            status, reply = ask(port, request)
            assert status == 200 and reply["rewards"][1] is None
            assert None not in (reply["rewards"][0], reply["rewards"][2])
            status, refused = ask(port, {"query": [long], "prompts": prompts and prompts[1:2]})
            assert status == 422 and "200 tokens" in refused["error"] and "128" in refused["error"]
            assert ask(port, {"query": [""], "prompts": [""]})[0] == 422
    with serving(home, "tiny-1") as port:
        assert ask(port, {"query": ["3 :"], "prompts": ["3 :"]})[0] == 422


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"{", 400, "truncated"),
        (b"[]", 400, "object"),
        ({}, 400, "query"),
        ({"query": []}, 400, "length"),
        ({"query": "text"}, 400, "array"),
        ({"query": [3]}, 400, "str"),
        ({"query": ["3"] * 1025}, 400, "length"),
        ({"query": ["3", "4"], "prompts": ["3"]}, 400, "1 entries for 2"),
        ({"query": ["3"], "labels": [1, 2]}, 400, "2 entries for 1"),
        (b'{"query": ["\xff"]}', 400, ""),
        ({"query": ["\ud800"]}, 400, ""),
        (b" " * (rm_server.MOST_BODY_BYTES + 1), 413, "16 MiB"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_with_a_reason(home: Home, content: object, status: int, said: str) -> None:
    with serving(home, str(home.folder)) as port:
        try:
            found, reply = ask(port, content)
        except ConnectionError:  # it hung up on 16 MiB that it does not read
            assert status == 413
        else:
            assert found == status and said in reply["error"]
        assert ask(port, {"query": ["3 : 1"]})[0] == 200


def test_other_paths_kinds_and_lengths_are_refused_and_the_server_goes_on(home: Home) -> None:
    with serving(home, str(home.folder)) as port:
        assert ask(port, {}, path="/")[0] == 404
        assert ask(port, b"", path="/get_reward", method="GET")[0] == 404
        assert ask(port, {"query": ["3"]}, headers={"Content-Type": "text/plain"})[0] == 415
        with socket.create_connection(("127.0.0.1", port), 30) as line:
            line.sendall(b"POST /get_reward HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n")
            assert b" 411 " in line.recv(1000)
        with socket.create_connection(("127.0.0.1", port), 30) as line:
            line.sendall(b"\x00\xff" * 200 + b"\r\n\r\n")
            line.recv(1000)
        threads = [threading.Thread(target=ask, args=(port, {"query": ["3 : 1"]})) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ask(port, b"", path="/health", method="GET")[1]["requests"] == 20


def test_a_token_is_asked_for_and_may_come_as_a_password(home: Home) -> None:
    basic = base64.b64encode(f"x:{SECRET}".encode()).decode()
    with serving(home, str(home.folder), token=SECRET) as port:
        for header in ("", "Bearer another", f"Digest {SECRET}", "Basic !", f"Basic {basic[:-4]}"):
            assert ask(port, {"query": ["3"]}, headers={"Authorization": header})[0] == 401
            assert ask(port, b"", path="/health", method="GET", headers={"Authorization": header})[0] == 401
        for header in (f"Bearer {SECRET}", f"Basic {basic}"):
            assert ask(port, {"query": ["3 : 1"]}, headers={"Authorization": header})[0] == 200


def test_nobody_else_is_answered_without_a_token() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        check_door(host, "")
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", ""):
        with pytest.raises(UsageError, match="other machines"):
            check_door(host, "")
        check_door(host, SECRET)
    with pytest.raises(UsageError, match="fewer than"):
        check_door("127.0.0.1", "short")


def test_what_has_no_reward_model_is_refused(home: Home) -> None:
    run = home.paths.run("plain-1")
    run.mkdir()
    recipe = parse_recipe(RECIPE.format(model=home.paths.home / "model"), "tiny.toml")
    home.paths.run_recipe("plain-1").write_text(dump_recipe(recipe))
    with pytest.raises(NotFound, match="has no reward model"):
        load_judge(home.paths, parse_arguments(["plain-1"]))
    with pytest.raises(NotFound, match="no such folder"):
        load_judge(home.paths, parse_arguments(["nowhere"]))
    with pytest.raises(UsageError, match="only a live reward model has versions"):
        load_judge(home.paths, parse_arguments([str(home.folder), "--version=2"]))
    live = replace_live(recipe)
    home.paths.run_recipe("plain-1").write_text(dump_recipe(live))
    with pytest.raises(NotFound, match="no version of a reward model yet"):
        load_judge(home.paths, parse_arguments(["plain-1"]))


def replace_live(recipe: Recipe) -> Recipe:
    return parse_recipe(dump_recipe(recipe), "tiny.toml", LIVE)


def test_the_command_says_where_it_listens_and_ends_when_it_is_told(home: Home) -> None:
    environment = child_environment(home.paths) | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop(TOKEN, None)
    command = [sys.executable, "-P", "-m", "ponder.cli", "rm", "serve", "tiny-1", "--port", "0", "--version", "1"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        try:
            assert program.stdout is not None
            address = program.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:") and address.endswith("/get_reward")
            status, reply = ask(int(address.split(":")[2].split("/")[0]), asked(home.live))
            expected = [rollout.parts[PREFERENCE] for _, _, rollout in home.live]
            assert status == 200 and reply["rewards"] == pytest.approx(expected, abs=1e-5)
        finally:
            os.killpg(program.pid, signal.SIGINT)
        _, said = program.communicate(timeout=30)
        assert program.returncode == 130, said
    assert "live reward model of tiny-1, version 1 of 9 rankings" in said
