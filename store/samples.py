"""A page of a run's answers: which of a million fit a filter, and which come next in an order.

    newest first    rollouts_narrow      with every column that a filter asks for, so that no text is read
    by reward       rollouts_by_reward
    by length       rollouts_by_length
    with a text     rollout_texts        (`store.search`)

A page goes on from a rollout and never from a number of rows, so that the last page costs what the first does. What is
filtered and in another order than the newest has to be sorted, which in a million takes a fifth of a second.
Deliberately left out: what an answer consists of (`store.rows`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from ponder.own_reward import MONITOR
from ponder.wire import GetSamples, StoredRollout
from store.search import containing, find_ids

if TYPE_CHECKING:
    from sqlite3 import Connection

FEW_GROUPS = 512
"""So many groups are looked through one by one; more are found among all rollouts."""
MOST_SORTED = 10_000
"""Of the answers that hold a text so many, the newest, are put into another order."""
ANY = "*"
"""For `GetSamples.monitor`: whichever."""
COLUMNS = {"reward": "reward", "length": "length_tokens"}
"""What the other orders compare first; then the id."""
NARROW = "INDEXED BY rollouts_narrow"
BY_GROUP = "INDEXED BY sqlite_autoindex_rollouts_1"
BY_ID = "NOT INDEXED"

Term = tuple[str, list[object]]
"""A condition over `rollouts`, and its arguments."""


def page_ids(connection: Connection, run_id: int, asked: GetSamples) -> list[int]:
    """The ids of the page, in the order asked for; `limit` -1 is none."""
    filters, index = _filters(connection, run_id, asked)
    goes_up = asked.from_end or asked.after_id is not None
    if asked.order == "newest":
        terms = [*filters, *_places(connection, run_id, asked)]
        if asked.text:
            found = _holding(connection, run_id, asked.text, terms, asked.limit, goes_up)
        else:
            found = _find(connection, run_id, index, terms, ("id",), asked.limit, goes_up)
    else:
        if asked.text:
            fitting = _holding(connection, run_id, asked.text, filters, MOST_SORTED, False)
            filters, index = [(f"rollouts.id IN {_listed(fitting)}", [])], BY_ID
        elif not filters:
            index = f"INDEXED BY rollouts_by_{asked.order}"
        if asked.order == "reward":
            filters = [*filters, ("rollouts.reward IS NOT NULL", [])]
        found = _find_sorted(connection, run_id, index, filters, asked, goes_up)
    return found[::-1] if goes_up else found


def excerpt(text: str, sought: str, most: int) -> str:
    """About `most` characters of a text, from shortly before what was looked for.

    >>> excerpt("one two three four", "Three", 9)
    '…o three f'
    """
    found = text.lower().find(sought.lower()) if sought else 0
    start = 0 if found < most - len(sought) else max(0, found - most // 4)
    return f"{'…' if start else ''}{text[start : start + most]}"


def cut_short(stored: StoredRollout, sought: str, most: int) -> StoredRollout:
    """The rollout with an excerpt of its text."""
    rollout = stored.rollout
    return replace(stored, rollout=replace(rollout, text=excerpt(rollout.text, sought, most)))


def _find(
    connection: Connection, run_id: int, index: str, terms: list[Term], keys: tuple[str, ...], limit: int, goes_up: bool
) -> list[int]:
    """The first rollouts for which all terms hold: those with the highest keys, or with the lowest."""
    where = "".join(f" AND {term}" for term, _ in terms)
    way = "ASC" if goes_up else "DESC"
    order = ", ".join(f"rollouts.{key} {way}" for key in keys)
    found = connection.execute(
        f"""SELECT rollouts.id FROM rollouts {index} WHERE rollouts.run_id = ? AND rollouts.is_superseded = 0{where}
            ORDER BY {order} LIMIT ?""",
        [run_id, *_arguments(terms), limit],
    )
    return [number for (number,) in found]


def _find_sorted(
    connection: Connection, run_id: int, index: str, filters: list[Term], asked: GetSamples, goes_up: bool
) -> list[int]:
    """In another order: first those that are equal to the one where the page begins, then the others.

    Apart, since an index leads to both at once, and to a comparison of two columns only past all that are equal.
    """
    column, place = COLUMNS[asked.order], asked.after_id if goes_up else asked.before_id
    known = place and connection.execute(f"SELECT {column} FROM rollouts WHERE id = ?", (place,)).fetchone()
    if not known or known[0] is None:
        return _find(connection, run_id, index, filters, (column, "id"), asked.limit, goes_up)
    sign = ">" if goes_up else "<"
    equal: list[Term] = [*filters, (f"rollouts.{column} = ? AND rollouts.id {sign} ?", [known[0], place])]
    others: list[Term] = [*filters, (f"rollouts.{column} {sign} ?", [known[0]])]
    found = _find(connection, run_id, index, equal, ("id",), asked.limit, goes_up)
    if len(found) != asked.limit:
        rest = asked.limit if asked.limit < 0 else asked.limit - len(found)
        found += _find(connection, run_id, index, others, (column, "id"), rest, goes_up)
    return found


def _holding(
    connection: Connection, run_id: int, text: str, terms: list[Term], limit: int, oldest_first: bool
) -> list[int]:
    where = " AND ".join(term for term, _ in [("rollouts.is_superseded = 0", []), *terms])
    return find_ids(connection, text, run_id, where, _arguments(terms), limit, oldest_first=oldest_first)


def _places(connection: Connection, run_id: int, asked: GetSamples) -> list[Term]:
    """Where the page begins or ends, newest first."""
    places: list[Term] = []
    if asked.before_id is not None:
        places.append(("rollouts.id < ?", [asked.before_id]))
    if asked.after_id is not None:
        places.append(("rollouts.id > ?", [asked.after_id]))
    if asked.from_step is not None:
        (newest,) = connection.execute(
            """SELECT max(rollouts.id) FROM groups JOIN rollouts ON rollouts.group_id = groups.id
               WHERE groups.run_id = ?1 AND groups.step = (
                   SELECT max(step) FROM groups WHERE run_id = ?1 AND step <= ?2 AND is_superseded = 0)""",
            (run_id, asked.from_step),
        ).fetchone()
        places.append(("rollouts.id <= ?", [-1 if newest is None else newest]))
    return places


def _filters(connection: Connection, run_id: int, asked: GetSamples) -> tuple[list[Term], str]:
    """What must hold, and by which index that is found."""
    terms: list[Term] = []
    for column, low, high in (
        ("reward", asked.min_reward, asked.max_reward),
        ("length_tokens", asked.min_length, asked.max_length),
    ):
        if low is not None:
            terms.append((f"rollouts.{column} >= ?", [low]))
        if high is not None:
            terms.append((f"rollouts.{column} <= ?", [high]))
    if asked.only_reflecting:
        terms.append(("rollouts.outcome IS NOT NULL", []))
    if asked.is_scored is not None:
        terms.append((f"rollouts.reward IS {'NOT ' if asked.is_scored else ''}NULL", []))
    for column, value in (("outcome", asked.outcome), ("is_correct", asked.is_correct), ("finish", asked.finish)):
        if value is not None:
            terms.append((f"rollouts.{column} = ?", [value]))
    said = [
        column
        for is_asked, column in (
            (asked.only_starred, "is_starred"), (asked.only_flagged, "is_flagged"), (asked.only_noted, "note <> ''"),
        )
        if is_asked
    ]  # fmt: skip
    if said:
        terms.append((f"rollouts.id IN (SELECT rollout_id FROM annotations WHERE {' AND '.join(said)})", []))
    if asked.only_finds:
        terms.append(("rollouts.id IN (SELECT rollout_id FROM finds)", []))
    if asked.monitor:
        name = "name GLOB ?" if asked.monitor == ANY else "name = ?"
        found = f"SELECT 1 FROM reward_parts WHERE rollout_id = rollouts.id AND {name} AND value > 0"
        terms.append((f"EXISTS ({found})", [MONITOR + asked.monitor]))
    of_groups = _of_groups(asked)
    if not of_groups:
        return terms, BY_ID if said or asked.only_finds else NARROW
    which = f"SELECT id FROM groups WHERE run_id = ?{''.join(f' AND {term}' for term, _ in of_groups)}"
    arguments = [run_id, *_arguments(of_groups)]
    few = [number for (number,) in connection.execute(f"{which} LIMIT ?", [*arguments, FEW_GROUPS + 1])]
    if len(few) <= FEW_GROUPS:
        return [*terms, (f"rollouts.group_id IN {_listed(few)}", [])], BY_GROUP
    return [*terms, (f"rollouts.group_id IN ({which})", arguments)], NARROW


def _of_groups(asked: GetSamples) -> list[Term]:
    """What the filter says of groups, which know step and prompt."""
    terms: list[Term] = [
        (f"step {sign} ?", [step])
        for sign, step in (("=", asked.step), (">=", asked.min_step), ("<=", asked.max_step))
        if step is not None
    ]
    if asked.prompt:
        prompts = "SELECT id FROM prompts WHERE text LIKE ? ESCAPE '\\'"
        terms.append((f"prompt_id IN ({prompts})", [containing(asked.prompt)]))
    return terms


def _arguments(terms: list[Term]) -> list[object]:
    return [argument for _, some in terms for argument in some]


def _listed(ids: list[int]) -> str:
    return f"({', '.join(map(str, ids))})"
