"""What Datasette says of the store: each table and view, columns that need a word, and questions to begin with.

    ponder export datasette -o metadata.json
    datasette ~/.local/share/ponder/ponder.db --metadata metadata.json

A test asks every question of a real store and looks for every table and column there. Deliberately left out: the tables
themselves (`store.migrations`), and a server: the store is opened read-only by whoever looks.
"""

from __future__ import annotations

TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "v_rollouts": (
        "Every answer with its run, step, prompt and reward: the place to begin",
        {
            "idx": "Its place in its group, from 0",
            "reward": "Empty: it could not be scored, which is not zero",
            "outcome": "What reflection did to it; empty: it does not reflect",
            "is_superseded": "1: made after the checkpoint that the run went back to, and not made again",
        },
    ),
    "v_aha": (
        "Every place where an answer turns back on itself, with some text around it",
        {
            "word": "At which it turns",
            "candidate_before": "What it had come to",
            "candidate_after": "What it came to then",
            "entropy": "Of the policy at the word, in nats",
        },
    ),
    "v_steps": ("The headline curves, a row a step", {"held_out_accuracy": "Where the step was evaluated"}),
    "v_knob_changes": ("What people turned, and what became of it", {"applied_step": "True since this step"}),
    "v_rankings": (
        "What people said of answers beside each other, a row an answer",
        {"rank": "1 is best", "score": "1 to 9"},
    ),
    "v_preferences": ("The same as pairs: chosen, rejected", {}),
    "runs": (
        "Every run with its recipe, as it was started",
        {"recipe": "TOML, complete", "parent_id": "Whose past it shares, up to `forked_at`", "versions": "JSON"},
    ),
    "attempts": ("Trainer processes of runs, and how each ended", {"cause": "In words"}),
    "commands": ("What people asked of runs: accepted, applied or refused", {"value": "JSON", "old": "JSON"}),
    "knobs": ("Each run's knobs, at its beginning and now", {"initial": "JSON", "value": "JSON"}),
    "events": ("Everything that happened, in order; the truth that most tables are derived from", {"body": "JSON"}),
    "steps": ("When each step was done", {"policy_version": "Updates before it"}),
    "metrics": ("Every number by run, name and step", {"value": "Empty: it was no finite number"}),
    "evaluations": ("What held-out problems said", {"metrics": "JSON"}),
    "checkpoints": ("What was saved; the newest and best are on disk", {"folder": "In the run's folder"}),
    "firings": ("When a rule of the watchdog fired", {}),
    "prompts": ("Problems as they were put", {"key": "The task's own name of it"}),
    "groups": (
        "Answers to one prompt in one step",
        {
            "purpose": "Empty: the policy learns from it; audit: it is there to be judged",
            "idx": "Its place in the step",
        },
    ),
    "rollouts": (
        "Answers; `v_rollouts` is easier to read",
        {"unsure": "Highest entropy at a turn, in nats", "frame": "Where an old text lies that is empty here"},
    ),
    "cold_frames": ("Parts of files beside the store, in which old texts and tokens lie, packed", {}),
    "reward_parts": ("What a reward is made of", {}),
    "marks": ("Turns; `v_aha` is easier to read", {"start_char": "In the text, half open", "lift": "Over chance"}),
    "finds": ("Moves of a game that nobody expected", {"imitated": "Probability when the stage began"}),
    "rollout_tokens": (
        "Each token of an answer, as bytes",
        {
            "token_ids": "Packed as `codec` says",
            "logps": "float16, nats, under the policy that sampled it",
            "entropies": "float16, nats",
        },
    ),
    "measurements": ("What `ponder eval` made of checkpoints", {"figures": "JSON, with 95 % intervals"}),
    "annotations": ("Stars, flags and notes", {}),
    "rankings": ("Rankings that people gave", {"undone_us": "Empty: it stands"}),
    "ranked_answers": ("The answers of rankings, as they were shown", {"rank": "1 is best; empty: worse than all"}),
    "imported_answers": ("Answers of rankings that other programs made", {}),
    "reward_models": ("Versions of live reward models", {"is_open": "Whether it may act"}),
    "tallies": ("How many answers of a kind a run has", {}),
    "meta": ("What this store is", {}),
}
"""What is said of each: in a sentence, and of the columns whose names don't say it all."""

HIDDEN = (
    "rollout_texts", "rollout_texts_config", "rollout_texts_data", "rollout_texts_idx",
    "text_index", "_sqlite_migrations",
)  # fmt: skip
"""What only the program needs."""

QUESTIONS: dict[str, tuple[str, str]] = {
    "first_aha": (
        "Of each run the first answer that a turn rescued",
        """SELECT run, min(step) AS step, rollout_id, word, candidate_before, candidate_after, excerpt
           FROM v_aha WHERE outcome = 'rescued' AND is_superseded = 0 GROUP BY run ORDER BY run""",
    ),
    "reward_over_time": (
        "Reward, length and reflection of a run, step by step",
        """SELECT step, round(reward, 4) AS reward, round(length_tokens, 1) AS length_tokens,
                  round(reflecting, 4) AS reflecting, held_out_accuracy
           FROM v_steps WHERE run = :run ORDER BY step""",
    ),
    "best_answers": (
        "The best answers of a run, the shortest first where they are equal",
        """SELECT id, step, prompt, text, reward, length_tokens FROM v_rollouts
           WHERE run = :run AND is_superseded = 0 AND reward IS NOT NULL
           ORDER BY reward DESC, length_tokens LIMIT 100""",
    ),
    "hardest_prompts": (
        "Prompts by the share of right answers, the hardest first",
        """SELECT prompts.text AS prompt, count(*) AS answers, round(avg(rollouts.is_correct), 4) AS correct
           FROM rollouts JOIN groups ON groups.id = rollouts.group_id JOIN prompts ON prompts.id = groups.prompt_id
           WHERE rollouts.is_correct IS NOT NULL AND rollouts.is_superseded = 0
           GROUP BY prompts.id ORDER BY correct, answers DESC LIMIT 100""",
    ),
    "what_was_turned": (
        "Every knob that was turned, the newest first",
        """SELECT run, knob, old, new, submitted_by, state, applied_step, message FROM v_knob_changes
           ORDER BY requested_us DESC""",
    ),
    "how_trainers_ended": (
        "Every trainer process that has ended",
        """SELECT runs.name AS run, attempt, cause, exit_code, signal, resumed_from,
                  (attempts.ended_us - attempts.started_us) / 1000000 AS seconds
           FROM attempts JOIN runs ON runs.id = attempts.run_id
           WHERE attempts.ended_us IS NOT NULL ORDER BY attempts.ended_us DESC""",
    ),
}
"""Canned queries; `:run` is asked for on the page."""


def metadata(database: str) -> dict[str, object]:
    """Datasette's `metadata.json` for a store in the file `database`.db."""
    tables: dict[str, object] = {
        name: {"description": about, **({"columns": columns} if columns else {})}
        for name, (about, columns) in TABLES.items()
    }
    tables |= {name: {"hidden": True} for name in HIDDEN}
    return {
        "title": "ponder",
        "description": "Runs that learn to reason, and all that was said, measured and turned in them",
        "databases": {
            database: {
                "tables": tables,
                "queries": {
                    name: {"title": title, "sql": " ".join(sql.split())} for name, (title, sql) in QUESTIONS.items()
                },
            }
        },
    }
