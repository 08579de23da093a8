"""The numbered migrations of the store; one that was released is never edited, a new one is added below it.

    meta                        what this store is
    runs attempts commands      what people asked for, and the processes that did it
    knobs                       each run's knobs: at the beginning and now
    events                      everything that happened, in order: what followers pull
    steps metrics evaluations checkpoints firings               numbers of a run, by step
    prompts groups rollouts reward_parts marks rollout_tokens finds
                                                                texts and what is known about them
    measurements                                                what `ponder eval` made of checkpoints
    annotations                                                 what people say of an answer: star, flag, note
    rankings ranked_answers reward_models                       what people say of answers beside each other, and what
                                                                was learnt from it
    rollout_texts text_index                                    where a text is found, and how far that goes
    cold_frames                                                 where texts and tokens of old answers lie
    tallies                                                     how many answers of a kind a run has
    v_rollouts v_aha v_steps v_knob_changes v_rankings v_preferences
                                                                the same for a person with Datasette or sqlite-utils

`events` is the truth. The other tables are derived from it (rollouts are the exception, their event holds a reference
only; and annotations, rankings and measurements, whose texts, notes and single problems no event tells) and exist so
that questions are quick. Every derived row has a natural key, so that a step that is done again after a restart writes
the same rows and their ids stay.

All tables are STRICT; times are integer microseconds since 1970 UTC; knob values are JSON, so that `true`, `1` and
`1.0` stay what they are. Each statement runs by itself: sqlite3's `executescript` would commit in the middle.
Deliberately left out: the tables of the first version (`store.first_tables`), and opening, backing up and refusing
(`store.schema`).
"""

from __future__ import annotations

import time

from ponder.events import OLD_OUTCOMES
from ponder.wire import new_id
from store.first_tables import NUMBERS, RUNS, TEXTS, VIEWS
from store.tables import Database, Migrations

NOTABLE = """kind NOT IN (
    'group_stored', 'group_learnt', 'step_done', 'ranking_kept', 'ranking_undone', 'reward_model_fitted'
)"""
"""Of an event; written alike in the index and in the question that uses it."""

MIGRATIONS = Migrations("ponder")
"""In order; sqlite-utils runs each in one transaction with its record in `_sqlite_migrations`."""


def _run_all(db: Database, statements: tuple[str, ...]) -> None:
    for statement in statements:
        db.execute(statement)


@MIGRATIONS(name="0001_first_store")
def first_store(db: Database) -> None:
    """The tables of version 0.1."""
    _run_all(db, RUNS + NUMBERS + TEXTS + VIEWS)
    db.execute("INSERT INTO meta VALUES ('store_id', ?), ('created_us', ?)", [new_id(), str(time.time_ns() // 1000)])


@MIGRATIONS(name="0002_firings")
def firings(db: Database) -> None:
    """When a rule of the watchdog fired."""
    db.execute("""
    CREATE TABLE firings (
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        rule TEXT NOT NULL,
        action TEXT NOT NULL,
        message TEXT NOT NULL,
        PRIMARY KEY (run_id, step, rule)
    ) STRICT, WITHOUT ROWID
    """)


@MIGRATIONS(name="0003_quick_questions")
def quick_questions(db: Database) -> None:
    """What makes a question quick in a store of a million answers: an index of texts, an order of worth, and counts.

    Texts that are already there are indexed later, in quiet moments (`store.search`).
    """
    _run_all(db, _TEXT_INDEX + _TALLIES)


@MIGRATIONS(name="0004_forks")
def forks(db: Database) -> None:
    """Which run a run shares its past with, up to which step."""
    _run_all(db, _FORKS)


@MIGRATIONS(name="0006_pages_of_answers")
def pages_of_answers(db: Database) -> None:
    """What makes a page of answers quick whatever it is filtered and sorted by; more of each token; notes."""
    _run_all(db, _PAGES)


@MIGRATIONS(name="0007_rankings")
def rankings(db: Database) -> None:
    """What people say of answers beside each other, the reward models fitted to it, and what a group is for."""
    _run_all(db, _RANKINGS)


@MIGRATIONS(name="0009_notable_events")
def notable_events(db: Database) -> None:
    """What makes a run's diary quick: what happened beside its groups and steps."""
    db.execute(f"CREATE INDEX events_notable ON events (run_id) WHERE {NOTABLE}")


@MIGRATIONS(name="0010_imported_rankings")
def imported_rankings(db: Database) -> None:
    """Answers of rankings that other programs made: they are no rollout of a run."""
    db.execute("""
    CREATE TABLE imported_answers (
        ranking_id INTEGER NOT NULL REFERENCES rankings (id) ON DELETE CASCADE, -- of the stream `imported`
        place INTEGER NOT NULL, -- from 0
        rank INTEGER, -- as in ranked_answers
        is_flagged INTEGER NOT NULL,
        is_truncated INTEGER NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (ranking_id, place)
    ) STRICT, WITHOUT ROWID
    """)


@MIGRATIONS(name="0011_measurements")
def measurements(db: Database) -> None:
    """What `ponder eval` made of checkpoints."""
    db.execute("""
    CREATE TABLE measurements (
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        way TEXT NOT NULL, -- plain, budget, wait
        amount INTEGER NOT NULL, -- tokens of thinking, or how often it was made to go on
        problems INTEGER NOT NULL,
        samples INTEGER NOT NULL, -- answers to each
        temperature REAL NOT NULL,
        most_tokens INTEGER NOT NULL,
        seed INTEGER NOT NULL,
        tokens REAL NOT NULL, -- mean of an answer
        thinking REAL NOT NULL, -- mean of its thinking
        forced REAL NOT NULL, -- share of answers whose thinking was ended, or made to go on
        figures TEXT NOT NULL CHECK (json_valid(figures)), -- each with its 95 % interval
        rates TEXT NOT NULL CHECK (json_valid(rates)), -- of each problem the share of right answers
        measured_by TEXT NOT NULL,
        measured_us INTEGER NOT NULL,
        PRIMARY KEY (run_id, step, way, amount, problems, samples, temperature, most_tokens, seed)
    ) STRICT, WITHOUT ROWID
    """)


@MIGRATIONS(name="0012_turns")
def turns(db: Database) -> None:
    """What is known of a turn beside its words, which answers earn a badge, and today's words for old outcomes."""
    _run_all(db, _TURNS)
    for old, new in OLD_OUTCOMES.items():
        for table in ("rollouts", "marks", "tallies"):
            db.execute(f"UPDATE {table} SET outcome = ? WHERE outcome = ?", [new, old])


_TURNS = (
    "ALTER TABLE marks ADD COLUMN tier INTEGER NOT NULL DEFAULT 0",  # all as in `ponder.events.Mark`
    "ALTER TABLE marks ADD COLUMN kind TEXT",
    *(
        f"ALTER TABLE marks ADD COLUMN {name} REAL NOT NULL DEFAULT 0"
        for name in ("surprise", "entropy_z", "surprise_z", "entropy_before", "entropy_after")
    ),
    *(f"ALTER TABLE marks ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0" for name in ("is_fork", "is_copy", "is_loop")),
    "ALTER TABLE marks ADD COLUMN lift REAL",  # NULL: no reference was asked
    "ALTER TABLE rollouts ADD COLUMN is_aha INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX rollouts_aha ON rollouts (run_id) WHERE is_aha = 1 AND is_superseded = 0",
)


@MIGRATIONS(name="0013_games")
def games(db: Database) -> None:
    """Which tokens of an answer the policy drew, where a world said the others; and moves that nobody expected."""
    _run_all(db, _GAMES)


_GAMES = (
    "ALTER TABLE rollout_tokens ADD COLUMN own BLOB",  # a byte each, 1 or 0; NULL: all
    """
    CREATE TABLE finds (
        rollout_id INTEGER NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
        idx INTEGER NOT NULL,
        start_char INTEGER NOT NULL,
        end_char INTEGER NOT NULL,
        move TEXT NOT NULL,
        position TEXT NOT NULL,
        imitated REAL NOT NULL, -- its probability under the policy that the stage began with
        now REAL NOT NULL, -- and under the policy that made it
        token INTEGER NOT NULL,
        PRIMARY KEY (rollout_id, idx)
    ) STRICT, WITHOUT ROWID
    """,
)


@MIGRATIONS(name="0014_cold_answers")
def cold_answers(db: Database) -> None:
    """Where the texts and tokens of old answers lie that were moved into files of their own."""
    _run_all(db, _COLD)


@MIGRATIONS(name="0015_scores")
def scores(db: Database) -> None:
    """Scores of answers that were judged one by one, kept as rankings that nothing learns from."""
    _run_all(db, _SCORES)


_COLD = (
    """
    CREATE TABLE cold_frames (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        segment TEXT NOT NULL, -- the file's name, in the folder that `store.cold` names
        start_byte INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        answers INTEGER NOT NULL,
        first_id INTEGER NOT NULL, -- of rollouts
        last_id INTEGER NOT NULL
    ) STRICT
    """,
    "ALTER TABLE rollouts ADD COLUMN frame INTEGER REFERENCES cold_frames (id)",  # NULL: the text is here
    "CREATE INDEX rollouts_cold ON rollouts (frame) WHERE frame IS NOT NULL",
    # what moves is neither written over nor deleted: the index goes on naming it
    "DROP TRIGGER rollout_text_replaced",
    "DROP TRIGGER rollout_text_deleted",
    """
    CREATE TRIGGER rollout_text_replaced AFTER UPDATE OF text ON rollouts
    WHEN old.text <> new.text AND old.frame IS NULL AND new.frame IS NULL
         AND old.id <= (SELECT indexed_to FROM text_index) BEGIN
        INSERT INTO rollout_texts (rollout_texts, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO rollout_texts (rowid, text) VALUES (new.id, new.text);
    END
    """,
    """
    CREATE TRIGGER rollout_text_deleted AFTER DELETE ON rollouts
    WHEN old.frame IS NULL AND old.id <= (SELECT indexed_to FROM text_index) BEGIN
        INSERT INTO rollout_texts (rollout_texts, rowid, text) VALUES ('delete', old.id, old.text);
    END
    """,
)

_FORKS = (
    "ALTER TABLE runs ADD COLUMN parent_id INTEGER REFERENCES runs (id) ON DELETE SET NULL",
    "ALTER TABLE runs ADD COLUMN forked_at INTEGER",  # the step after which their ways part
)

_TEXT_INDEX = (
    """
    CREATE VIRTUAL TABLE rollout_texts USING fts5 (
        text, content = 'rollouts', content_rowid = 'id', tokenize = 'trigram', detail = 'none', columnsize = 0
    )
    """,
    # many small transactions write it: merged in sixteens it costs a quarter less than in fours, and is as quick to ask
    "INSERT INTO rollout_texts (rollout_texts, rank) VALUES ('automerge', 16), ('crisismerge', 64)",
    "CREATE TABLE text_index (indexed_to INTEGER NOT NULL) STRICT",  # one row: the newest rollout in rollout_texts
    "INSERT INTO text_index VALUES (0)",
    """
    CREATE TRIGGER rollout_text_replaced AFTER UPDATE OF text ON rollouts
    WHEN old.text <> new.text AND old.id <= (SELECT indexed_to FROM text_index) BEGIN
        INSERT INTO rollout_texts (rollout_texts, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO rollout_texts (rowid, text) VALUES (new.id, new.text);
    END
    """,
    """
    CREATE TRIGGER rollout_text_deleted AFTER DELETE ON rollouts
    WHEN old.id <= (SELECT indexed_to FROM text_index) BEGIN
        INSERT INTO rollout_texts (rollout_texts, rowid, text) VALUES ('delete', old.id, old.text);
    END
    """,
)

_TALLIES = (
    # the highest entropy, in nats, at a mark that had the answer's own outcome; NULL: it does not reflect
    "ALTER TABLE rollouts ADD COLUMN unsure REAL",
    """
    UPDATE rollouts SET unsure = (
        SELECT max(marks.entropy) FROM marks WHERE marks.rollout_id = rollouts.id AND marks.outcome = rollouts.outcome
    ) WHERE outcome IS NOT NULL
    """,
    """
    CREATE INDEX rollouts_by_worth ON rollouts (run_id, outcome, unsure, length_tokens, advantage)
    WHERE outcome IS NOT NULL AND is_superseded = 0
    """,
    "CREATE INDEX rollouts_reflecting ON rollouts (run_id) WHERE outcome IS NOT NULL AND is_superseded = 0",
    """
    CREATE TABLE tallies ( -- of answers that are not superseded
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        outcome TEXT NOT NULL, -- of reflection; empty: it does not reflect
        is_paid INTEGER NOT NULL, -- a positive advantage
        answers INTEGER NOT NULL,
        length_tokens INTEGER NOT NULL, -- of all of them
        PRIMARY KEY (run_id, outcome, is_paid)
    ) STRICT, WITHOUT ROWID
    """,
    """
    INSERT INTO tallies SELECT run_id, coalesce(outcome, ''), advantage > 0, count(*), sum(length_tokens)
    FROM rollouts WHERE is_superseded = 0 GROUP BY 1, 2, 3
    """,
    "DROP INDEX groups_by_size",
)

_PAGES = (
    # whoever looks for answers by a number or a word reads this, in the order of their making, and no text
    """
    CREATE INDEX rollouts_narrow ON rollouts (
        run_id, id, group_id, reward, length_tokens, is_correct, finish, outcome
    ) WHERE is_superseded = 0
    """,
    "DROP INDEX rollouts_by_run",
    "CREATE INDEX rollouts_by_reward ON rollouts (run_id, reward) WHERE is_superseded = 0 AND reward IS NOT NULL",
    "CREATE INDEX rollouts_by_length ON rollouts (run_id, length_tokens) WHERE is_superseded = 0",
    # each NULL where it was not recorded; as in `ponder.events.Rollout`
    "ALTER TABLE rollout_tokens ADD COLUMN widths BLOB",
    "ALTER TABLE rollout_tokens ADD COLUMN foretold BLOB",
    "ALTER TABLE rollout_tokens ADD COLUMN alternatives TEXT CHECK (alternatives IS NULL OR json_valid(alternatives))",
    "ALTER TABLE rollout_tokens ADD COLUMN alternative_logps BLOB",
    """
    CREATE TABLE annotations ( -- what people say of an answer
        rollout_id INTEGER PRIMARY KEY REFERENCES rollouts (id) ON DELETE CASCADE,
        is_starred INTEGER NOT NULL,
        is_flagged INTEGER NOT NULL,
        note TEXT NOT NULL,
        changed_by TEXT NOT NULL,
        changed_us INTEGER NOT NULL
    ) STRICT
    """,
)

_RANKINGS = (
    # empty: the policy learns from it; audit: it is there to be judged
    "ALTER TABLE groups ADD COLUMN purpose TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE groups ADD COLUMN reward_model INTEGER NOT NULL DEFAULT 0",  # the version that scored it; 0: none
    "CREATE INDEX groups_to_rank ON groups (run_id) WHERE purpose = '' AND is_superseded = 0",
    "CREATE INDEX groups_to_audit ON groups (run_id, step, prompt_id) WHERE purpose = 'audit' AND is_superseded = 0",
    """
    CREATE TABLE rankings (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        ranking TEXT NOT NULL UNIQUE, -- made by whoever gave it
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        prompt_id INTEGER NOT NULL REFERENCES prompts (id),
        annotator TEXT NOT NULL,
        stream TEXT NOT NULL, -- why these answers were shown
        verdict TEXT NOT NULL,
        step INTEGER NOT NULL, -- the run's newest step then
        reward_model INTEGER NOT NULL, -- the version whose scores it was compared with; 0: none had scored them all
        agreed INTEGER NOT NULL, -- pairs that it had in the same order
        pairs INTEGER NOT NULL, -- that the ranking decides
        seconds REAL NOT NULL,
        guidelines_version INTEGER NOT NULL,
        reasons TEXT NOT NULL CHECK (json_valid(reasons)),
        note TEXT NOT NULL,
        submitted_by TEXT NOT NULL,
        kept_us INTEGER NOT NULL,
        undo TEXT UNIQUE, -- the request that took it back; NULL: it stands
        undone_us INTEGER,
        undone_by TEXT
    ) STRICT
    """,
    "CREATE INDEX rankings_by_run ON rankings (run_id)",
    "CREATE INDEX rankings_by_annotator ON rankings (run_id, annotator)",
    "CREATE INDEX rankings_of_audits ON rankings (run_id) WHERE stream = 'audit'",
    """
    CREATE TABLE ranked_answers (
        ranking_id INTEGER NOT NULL REFERENCES rankings (id) ON DELETE CASCADE,
        place INTEGER NOT NULL, -- where it was shown, from 0
        rollout_id INTEGER NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
        rank INTEGER, -- 1 is best, equal is a tie, NULL is worse than all that have one
        is_flagged INTEGER NOT NULL,
        text TEXT NOT NULL, -- as it was shown: a step that is done again may write over the rollout
        PRIMARY KEY (ranking_id, place)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX ranked_answers_by_rollout ON ranked_answers (rollout_id)",
    """
    CREATE TABLE reward_models (
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        version INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        labels INTEGER NOT NULL, -- rankings that it was fitted to
        is_open INTEGER NOT NULL, -- whether it may act
        figures TEXT NOT NULL CHECK (json_valid(figures)),
        step INTEGER NOT NULL, -- the run's newest step then
        fitted_us INTEGER NOT NULL,
        PRIMARY KEY (run_id, version)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX events_of_brakes ON events (run_id) WHERE kind = 'brake_changed'",
    """
    CREATE VIEW v_rankings AS
    SELECT rankings.id, rankings.ranking, runs.name AS run, rankings.step, rankings.annotator, rankings.stream,
           rankings.verdict, prompts.text AS prompt, ranked_answers.place, ranked_answers.rank, ranked_answers.text,
           ranked_answers.is_flagged, ranked_answers.rollout_id, rankings.seconds, rankings.reward_model,
           rankings.reasons, rankings.note, rankings.kept_us, rankings.undone_us
    FROM rankings
    JOIN ranked_answers ON ranked_answers.ranking_id = rankings.id
    JOIN prompts ON prompts.id = rankings.prompt_id
    JOIN runs ON runs.id = rankings.run_id
    """,
    """
    CREATE VIEW v_preferences AS
    SELECT rankings.ranking, runs.name AS run, rankings.step, rankings.annotator, rankings.stream,
           prompts.text AS prompt, better.text AS chosen, worse.text AS rejected,
           better.rollout_id AS chosen_id, worse.rollout_id AS rejected_id, rankings.reward_model, rankings.kept_us
    FROM rankings
    JOIN ranked_answers AS better ON better.ranking_id = rankings.id AND better.rank IS NOT NULL
    JOIN ranked_answers AS worse ON worse.ranking_id = rankings.id
         AND (worse.rank IS NULL OR worse.rank > better.rank)
    JOIN prompts ON prompts.id = rankings.prompt_id
    JOIN runs ON runs.id = rankings.run_id
    WHERE rankings.undone_us IS NULL
    """,
)

_SCORES = (
    # JSON, one an answer by its place, none where they were skipped; NULL: they were put in order
    "ALTER TABLE rankings ADD COLUMN scores TEXT CHECK (scores IS NULL OR json_valid(scores))",
    "DROP VIEW v_rankings",
    """
    CREATE VIEW v_rankings AS
    SELECT rankings.id, rankings.ranking, runs.name AS run, rankings.step, rankings.annotator, rankings.stream,
           rankings.verdict, prompts.text AS prompt, ranked_answers.place, ranked_answers.rank,
           json_extract(rankings.scores, '$[' || ranked_answers.place || ']') AS score, ranked_answers.text,
           ranked_answers.is_flagged, ranked_answers.rollout_id, rankings.seconds, rankings.reward_model,
           rankings.reasons, rankings.note, rankings.kept_us, rankings.undone_us
    FROM rankings
    JOIN ranked_answers ON ranked_answers.ranking_id = rankings.id
    JOIN prompts ON prompts.id = rankings.prompt_id
    JOIN runs ON runs.id = rankings.run_id
    """,
    "DROP VIEW v_preferences",
    """
    CREATE VIEW v_preferences AS
    SELECT rankings.ranking, runs.name AS run, rankings.step, rankings.annotator, rankings.stream,
           prompts.text AS prompt, better.text AS chosen, worse.text AS rejected,
           better.rollout_id AS chosen_id, worse.rollout_id AS rejected_id, rankings.reward_model, rankings.kept_us
    FROM rankings
    JOIN ranked_answers AS better ON better.ranking_id = rankings.id AND better.rank IS NOT NULL
    JOIN ranked_answers AS worse ON worse.ranking_id = rankings.id
         AND (worse.rank IS NULL OR worse.rank > better.rank)
    JOIN prompts ON prompts.id = rankings.prompt_id
    JOIN runs ON runs.id = rankings.run_id
    WHERE rankings.undone_us IS NULL AND rankings.scores IS NULL
    """,
)
