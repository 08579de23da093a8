"""The tables and views of version 0.1, as its migration makes them: never edited.

Deliberately left out: what later versions add (`store.migrations`).
"""

from __future__ import annotations

RUNS = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        recipe_name TEXT NOT NULL,
        number INTEGER NOT NULL,
        title TEXT NOT NULL,
        source TEXT NOT NULL,
        submitted_by TEXT NOT NULL,
        recipe TEXT NOT NULL,
        stage TEXT NOT NULL,
        steps INTEGER NOT NULL,
        step INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '',
        model TEXT NOT NULL,
        parameters INTEGER NOT NULL DEFAULT 0,
        device TEXT NOT NULL DEFAULT '',
        threads INTEGER NOT NULL DEFAULT 0,
        versions TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(versions)),
        created_us INTEGER NOT NULL,
        started_us INTEGER,
        ended_us INTEGER,
        seen_us INTEGER,
        phase TEXT NOT NULL DEFAULT '',
        UNIQUE (recipe_name, number)
    ) STRICT
    """,
    """
    CREATE TABLE attempts (
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        attempt INTEGER NOT NULL,
        pid INTEGER NOT NULL DEFAULT 0,
        pid_start INTEGER NOT NULL DEFAULT 0,
        boot_id TEXT NOT NULL DEFAULT '',
        resumed_from INTEGER,
        started_us INTEGER NOT NULL,
        ended_us INTEGER,
        exit_code INTEGER,
        signal INTEGER,
        cause TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (run_id, attempt)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE commands (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        command TEXT NOT NULL UNIQUE,
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        verb TEXT NOT NULL,
        name TEXT NOT NULL DEFAULT '',
        value TEXT CHECK (value IS NULL OR json_valid(value)),
        old TEXT CHECK (old IS NULL OR json_valid(old)),
        submitted_by TEXT NOT NULL,
        requested_us INTEGER NOT NULL,
        state TEXT NOT NULL,
        step INTEGER,
        settled_us INTEGER,
        message TEXT NOT NULL DEFAULT '',
        hint TEXT NOT NULL DEFAULT ''
    ) STRICT
    """,
    "CREATE INDEX commands_by_run ON commands (run_id, state)",
    """
    CREATE TABLE knobs (
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        initial TEXT NOT NULL CHECK (json_valid(initial)),
        value TEXT NOT NULL CHECK (json_valid(value)),
        PRIMARY KEY (run_id, name)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        attempt INTEGER,
        seq INTEGER,
        time_us INTEGER NOT NULL,
        step INTEGER,
        kind TEXT NOT NULL,
        body TEXT NOT NULL CHECK (json_valid(body))
    ) STRICT
    """,
    "CREATE UNIQUE INDEX events_by_seq ON events (run_id, seq) WHERE seq IS NOT NULL",
    "CREATE INDEX events_by_run ON events (run_id)",
)

NUMBERS = (
    """
    CREATE TABLE steps (
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        policy_version INTEGER NOT NULL,
        done_us INTEGER NOT NULL,
        PRIMARY KEY (run_id, step)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE metrics (
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        step INTEGER NOT NULL,
        value REAL, -- NULL: reported, but not a finite number
        PRIMARY KEY (run_id, name, step)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE evaluations (
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        is_final INTEGER NOT NULL,
        done_us INTEGER NOT NULL,
        metrics TEXT NOT NULL CHECK (json_valid(metrics)),
        PRIMARY KEY (run_id, step)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE checkpoints (
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        folder TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        saved_us INTEGER NOT NULL,
        PRIMARY KEY (run_id, step)
    ) STRICT, WITHOUT ROWID
    """,
)

TEXTS = (
    """
    CREATE TABLE prompts (
        id INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE, -- of the three columns below: one problem may be written in several ways
        key TEXT NOT NULL,
        text TEXT NOT NULL,
        reference TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE groups (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        policy_version INTEGER NOT NULL,
        prompt_id INTEGER NOT NULL REFERENCES prompts (id),
        size INTEGER NOT NULL,
        reward_mean REAL, -- over the scored answers; NULL when none was
        reward_std REAL,
        rescued INTEGER NOT NULL,
        created_us INTEGER NOT NULL,
        is_superseded INTEGER NOT NULL DEFAULT 0, -- made after the checkpoint that the run went back to, not made again
        UNIQUE (run_id, step, idx)
    ) STRICT
    """,
    "CREATE INDEX groups_by_run ON groups (run_id) WHERE is_superseded = 0",
    "CREATE INDEX groups_by_size ON groups (run_id, size) WHERE is_superseded = 0",  # counts a run's rollouts
    """
    CREATE TABLE rollouts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        group_id INTEGER NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
        idx INTEGER NOT NULL,
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        text TEXT NOT NULL,
        length_tokens INTEGER NOT NULL,
        finish TEXT NOT NULL,
        reward REAL, -- NULL: could not be scored, which is not zero
        advantage REAL NOT NULL,
        is_correct INTEGER,
        answer TEXT NOT NULL,
        answer_start INTEGER NOT NULL,
        outcome TEXT, -- what reflection did to it as a whole; NULL: it does not reflect
        error TEXT NOT NULL,
        is_superseded INTEGER NOT NULL DEFAULT 0,
        UNIQUE (group_id, idx)
    ) STRICT
    """,
    "CREATE INDEX rollouts_by_run ON rollouts (run_id) WHERE is_superseded = 0",
    "CREATE INDEX rollouts_by_outcome ON rollouts (run_id, outcome) WHERE outcome IS NOT NULL AND is_superseded = 0",
    """
    CREATE TABLE reward_parts (
        rollout_id INTEGER NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        value REAL NOT NULL,
        PRIMARY KEY (rollout_id, name)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE marks (
        rollout_id INTEGER NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
        idx INTEGER NOT NULL,
        start_char INTEGER NOT NULL,
        end_char INTEGER NOT NULL,
        word TEXT NOT NULL,
        outcome TEXT NOT NULL,
        candidate_before TEXT NOT NULL,
        candidate_after TEXT NOT NULL,
        token INTEGER NOT NULL,
        entropy REAL NOT NULL,
        PRIMARY KEY (rollout_id, idx)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE rollout_tokens (
        rollout_id INTEGER PRIMARY KEY REFERENCES rollouts (id) ON DELETE CASCADE,
        codec TEXT NOT NULL, -- raw or zlib, of the ids; the other two hardly shrink
        token_ids BLOB NOT NULL, -- uint32 little endian, one a token
        logps BLOB NOT NULL, -- float16 little endian, one a token, nats
        entropies BLOB NOT NULL
    ) STRICT
    """,
)

VIEWS = (
    """
    CREATE VIEW v_rollouts AS
    SELECT rollouts.id, runs.name AS run, groups.step, groups.idx AS "group", rollouts.idx, prompts.text AS prompt,
           prompts.reference, rollouts.text, rollouts.reward, rollouts.advantage, rollouts.is_correct, rollouts.outcome,
           rollouts.answer, rollouts.length_tokens, rollouts.finish, rollouts.error, rollouts.is_superseded
    FROM rollouts
    JOIN groups ON groups.id = rollouts.group_id
    JOIN prompts ON prompts.id = groups.prompt_id
    JOIN runs ON runs.id = rollouts.run_id
    """,
    """
    CREATE VIEW v_aha AS
    SELECT marks.rollout_id, marks.idx, runs.name AS run, groups.step, prompts.text AS prompt, marks.word,
           marks.outcome, marks.candidate_before, marks.candidate_after, marks.entropy, rollouts.reward,
           rollouts.advantage, substr(rollouts.text, max(1, marks.start_char - 119), 240) AS excerpt,
           rollouts.is_superseded
    FROM marks
    JOIN rollouts ON rollouts.id = marks.rollout_id
    JOIN groups ON groups.id = rollouts.group_id
    JOIN prompts ON prompts.id = groups.prompt_id
    JOIN runs ON runs.id = rollouts.run_id
    """,
    """
    CREATE VIEW v_steps AS
    SELECT runs.name AS run, metrics.step,
           max(value) FILTER (WHERE metrics.name = 'reward/mean') AS reward,
           max(value) FILTER (WHERE metrics.name = 'eval/accuracy') AS held_out_accuracy,
           max(value) FILTER (WHERE metrics.name = 'length/mean') AS length_tokens,
           max(value) FILTER (WHERE metrics.name = 'reflection/rate') AS reflecting,
           max(value) FILTER (WHERE metrics.name = 'reflection/rescued') AS rescued,
           max(value) FILTER (WHERE metrics.name = 'policy/entropy') AS entropy
    FROM metrics JOIN runs ON runs.id = metrics.run_id
    GROUP BY metrics.run_id, metrics.step
    """,
    """
    CREATE VIEW v_knob_changes AS
    SELECT commands.command, runs.name AS run, commands.name AS knob, commands.old, commands.value AS new,
           commands.submitted_by, commands.requested_us, commands.state, commands.step AS applied_step, commands.message
    FROM commands JOIN runs ON runs.id = commands.run_id
    WHERE commands.verb = 'set'
    """,
)
