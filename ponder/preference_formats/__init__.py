"""Rankings as other people's programs write them, in and out: pure functions, one file a family.

    ranked          what all formats are made from: a ranking, its pairs, and pairs made a ranking again
    cells dialogue  a cell of a row; a dialogue in two message lists or two texts
    native          `ponder-ranking/1`: all that is known of a ranking
    trl hh ultrafeedback kto argilla label_studio arena
    catalogue       the table of them by name
    files           rows in JSONL, JSON and Parquet
    trade           a file out of rankings, rankings out of a file, and what there is to say about it

A writer takes rankings and gives rows, a reader takes rows and gives rankings; both count what they leave out
(`ranked.Notes`). The trainer reads its own files through the same cells (`trainer.rankings`). Deliberately left out:
where rankings come from (a run, by `ponder export rankings`).
"""
