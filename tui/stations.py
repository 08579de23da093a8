"""The ten stations of `ponder tutorial`: what each says, and the keys that it waits for.

`[group.explain]` in a text stands for the key of that action as the person has it. A text fits into two rows of a small
terminal; what `more` says stands below it where there is room. Deliberately left out: when a key was the right one
(`tui.tutor`), and where the texts stand (`tui.screens.guide`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ponder import wire


class Need(StrEnum):
    """What must be there before a move makes sense; `tui.tutor` looks for it."""

    NOTHING = "nothing"
    WRITING = "an answer that is being written"
    SCORED = "an answer that is scored"
    MEASURED = "two evaluations, so that they can be compared"
    RESCUED = "an answer that reflection rescued"
    APPLIED = "a knob that was turned"
    PAUSED = "a run that is paused"
    SAVED = "a checkpoint on disk"
    RANKABLE = "answers to be put in order"
    FORKED = "another run that shares the past of this one"


@dataclass(frozen=True)
class Move:
    """One key that the tutorial waits for."""

    action: str
    """Its id in `tui.actions`."""
    words: str
    more: str = ""
    need: Need = Need.NOTHING
    meanwhile: str = ""
    """What is said until what it needs is there, with the run's `{step}`; it is measured `{every}` so many."""
    is_live: bool = False
    """Whether it takes a run that is not over."""
    also: tuple[str, ...] = ()
    """Other actions that do as well."""
    until: type[wire.Request] | None = None
    """What has to be asked of the daemon for it to be done; where there is none, the key alone does."""


@dataclass(frozen=True)
class Station:
    """Some moves about one idea."""

    name: str
    title: str
    idea: str
    """What of reinforcement learning it shows."""
    moves: tuple[Move, ...]
    commands: tuple[str, ...]
    """What shows the same from a shell; `{run}` for the run's name."""


STATIONS: tuple[Station, ...] = (
    Station(
        "writing",
        "An answer is written",
        "A language model acts: the text so far is its state, the next token its action",
        (
            Move(
                "live.next",
                "A model solves puzzles such as `solve 3 5 8 -> 16 :`. The text so far is the state, the next token "
                "its action: watch it choose. Press [live.next] for another answer.",
                "Nobody shows it how. It tries, only the outcome is judged, and what led there becomes more likely: "
                "reinforcement learning, the third stage after pre-training (huge text) and fine-tuning (examples).",
                Need.WRITING,
                "The model is being loaded and measured; then its answers appear here while they are written, token "
                "by token.",
                is_live=True,
            ),
        ),
        ("ponder follow {run}", "ponder watch {run}"),
    ),
    Station(
        "chances",
        "The policy",
        "The policy is the model: the probabilities of the next action; drawing from them is exploring",
        (
            Move(
                "screen.tokens",
                "The policy gives every possible next token a probability, and one is drawn: so one prompt has many "
                "answers. Press [screen.tokens] to see one token by token.",
                "Drawing is how it explores: thousands of tries, some of which lead to a better end.",
                Need.SCORED,
                "An answer can be looked into once its step is scored: a few seconds.",
            ),
            Move(
                "tokens.right",
                "The hotter a token, the less probable it was. Below: the chance of the one under the cursor, and what "
                "else could have come. Press [tokens.right] for the next token.",
                "Had the dice fallen otherwise, another of those would stand there, and the rest would be another try. "
                "[tokens.hot] looks for the least expected ones.",
            ),
        ),
        ("ponder samples {run}", "ponder samples {run} --json"),
    ),
    Station(
        "group",
        "The group",
        "GRPO needs no critic: answers to the same question are compared with each other",
        (
            Move(
                "screen.group",
                "Was an answer good? PPO trains a second model to guess. GRPO asks the same question several times "
                "and compares the answers. Press [screen.group].",
                "Like students of a class who learn by comparing their solutions.",
                Need.SCORED,
                "The first groups are scored with the first step: a few seconds.",
            ),
            Move(
                "group.left",
                "One prompt, many answers. Each earned a reward, 1 for a right end; `adv` says how much better than "
                "its siblings it was. [group.left] and [group.right] go through them.",
                "Where all rewards are equal nothing can be compared, and the group teaches nothing: [group.previous] "
                "goes to an older one, [group.next] to a newer one.",
                also=("group.right",),
            ),
        ),
        ("ponder group --run {run}",),
    ),
    Station(
        "formula",
        "One update, in five steps",
        "GRPO, step by step: gather, reward, loss, back-propagate, refresh",
        (
            Move(
                "group.explain",
                "How does it learn from them? Press [group.explain] to see the five steps of one update, with the "
                "numbers of this very group.",
                need=Need.SCORED,
                meanwhile="The first groups are scored with the first step: a few seconds.",
            ),
            Move(
                "group.left",
                "Loss: how likely is an answer now (rho), was it better than its siblings (A), clipped. "
                "[text.page_down] scrolls, [group.left] [group.right] work out another.",
                "The old policy (which sampled) and the reference (which KL holds it near) are two policies, and each "
                "is refreshed by a clock of its own.",
                also=("group.right",),
            ),
        ),
        ("ponder explain {run} --step STEP --group GROUP",),
    ),
    Station(
        "curves",
        "Many updates",
        "Reasoning by reinforcement alone (R1-Zero): accuracy grows, and answers grow longer by themselves",
        (
            Move(
                "screen.curves",
                "Update after update the policy moves towards what earned more. Press [screen.curves] to see reward, "
                "accuracy, length, and how often answers turn back.",
                need=Need.MEASURED,
                meanwhile="Every {every} steps it is measured on problems that it never trains on; this is step "
                "{step}. A curve needs two such points. Meanwhile [screen.samples] reads answers.",
            ),
            Move(
                "curves.open",
                "Held-out accuracy counts: problems it never trained on. Length is not rewarded at all, and still it "
                "moves. Press [curves.open] for one chart alone.",
                "In R1-Zero it grew to some 20,000 tokens, with a jump where its limit was raised. It is no law: "
                "nearly the same recipe on another base model lost all reflection.",
            ),
        ),
        ("ponder plot {run} reward accuracy length reflect",),
    ),
    Station(
        "aha",
        "The aha moment",
        "At some point it stops, looks again at its earlier steps and corrects them; nobody programmed that",
        (
            Move(
                "screen.aha",
                "Some answers stop and try anew: `no wait`. No reward asks for that. Does it help? Press [screen.aha] "
                "to see what became of each turn.",
                need=Need.RESCUED,
                meanwhile="No answer has been saved by turning back so far; this is step {step}, and the first one "
                "mostly comes within twenty. [screen.live] watches meanwhile.",
            ),
            Move(
                "aha.outcome",
                "Rescued and harmed weigh the same here, and most turns do neither: the word alone proves no thought. "
                "Press [aha.outcome] to see the rescued alone.",
                "The base model could do it before, rarely. What RL does is to make it likelier, because it pays.",
            ),
            Move(
                "aha.open",
                "Wrong before the turn, right after it, and nobody programmed that. Press [aha.open] on one to read "
                "the whole answer and each turn in it.",
                "The badge AHA is for rescues that the tokens speak for too: the answer was decided there.",
            ),
        ),
        ("ponder aha {run}", "ponder samples {run} --outcome rescued"),
    ),
    Station(
        "knob",
        "A knob, while it learns",
        "A curve can jump because somebody turned a knob: R1-Zero's length did when its limit was raised",
        (
            Move(
                "screen.knobs",
                "A curve may jump because a knob was turned, not because something was learnt. Press [screen.knobs] "
                "for all that can be turned while the run goes on.",
                is_live=True,
            ),
            Move(
                "knobs.more",
                "Move with [list.down] to `sampling.temperature`: the higher, the more daring the draw. Press "
                "[knobs.more] for a step more, then Enter to send it.",
                "Accepted means on disk, will be tried; applied means true since that step; refused says why.",
                is_live=True,
                until=wire.SetKnob,
            ),
            Move(
                "screen.curves",
                "Applied: every step since then has it. All curves carry a mark there, so that nobody takes a knob "
                "for something learnt. Press [screen.curves].",
                need=Need.APPLIED,
                meanwhile="Accepted: it is on disk, and comes true at the next step boundary. The last line will say "
                "`applied at step N`.",
            ),
            Move(
                "curves.last_mark",
                "Press [curves.last_mark] to put the cursor on the newest mark, `k` for a knob: the line below the "
                "charts says what was turned, the charts their values there.",
            ),
        ),
        ("ponder set {run} sampling.temperature=1.1", "ponder knobs {run}"),
    ),
    Station(
        "talk",
        "Hold it, keep it, talk to it",
        "Train-time and test-time compute: more learning, and more thinking for an answer",
        (
            Move(
                "run.save",
                "What it has learnt by now can be kept. Press [run.save]: it writes a checkpoint at the next step "
                "boundary.",
                is_live=True,
                until=wire.SaveRun,
            ),
            Move(
                "run.pause",
                "Then let it wait. Press [run.pause]: the run holds at a step boundary, nothing is lost, and the "
                "processor is free for a talk.",
                is_live=True,
                until=wire.PauseRun,
            ),
            Move(
                "screen.checkpoints",
                "Press [screen.checkpoints] for what lies on disk, with what each was worth when it was measured.",
                need=Need.SAVED,
                meanwhile="The checkpoint is written when the present step is done: a few seconds.",
            ),
            Move(
                "checkpoints.talk",
                "Press [checkpoints.talk] to talk to one. Type `/problem`, then `/budget 12` (12 tokens to think) and "
                "`/problem` again. Ctrl-D comes back here.",
                "A budget takes test-time compute away: `/samples 16` shows how often it is still right.",
                need=Need.SAVED,
                meanwhile="The checkpoint is written when the present step is done: a few seconds.",
            ),
            Move(
                "run.pause",
                "More learning is train-time compute, more thinking test-time compute; o1 got better with both. "
                "Press [run.pause] to let the run go on learning.",
                need=Need.PAUSED,
                meanwhile="The run is not paused (yet). [run.pause] holds it, and lets it go on; [tutorial.skip] "
                "leads to the next station.",
                is_live=True,
                until=wire.ResumeRun,
            ),
        ),
        ("ponder save {run}", "ponder pause {run}", "ponder chat {run}@STEP", "ponder resume {run}"),
    ),
    Station(
        "rank",
        "Where nothing can be verified",
        "RLHF: people rank a little, a reward model learns to judge like them, and RL can game it",
        (
            Move(
                "screen.rank",
                "A poem has no right answer: there people judge. To rank answers is easier than to score them. Press "
                "[screen.rank] and be asked. (Digits are places there.)",
                "Nobody can judge a billion answers. So people judge a few, and a reward model learns to judge like "
                "them.",
            ),
            Move(
                "rank.commit",
                "Type the digit of the best answer, then of the next best, and [rank.commit] to keep it. Nothing "
                "learns from it in this run; `ponder run rlhf-synthetic` does.",
                need=Need.RANKABLE,
                meanwhile="No answers wait to be ranked. They come with each step; [tutorial.skip] leads on.",
                until=wire.RankAnswers,
            ),
            Move(
                "rank.gauge",
                "A reward model is only an approximation, and RL is good at gaming it: too long, and nonsense scores "
                "high. Press [rank.gauge] for its promises against people.",
                "So it is run for a while and stopped; the brake does that. Where answers can be verified, as in this "
                "run, learning may go on.",
            ),
        ),
        ("ponder rank {run}", "ponder rlhf status {run}"),
    ),
    Station(
        "fork",
        "Another way",
        "AlphaGo: imitating experts stops at their level, trying other ways goes beyond it",
        (
            Move(
                "screen.checkpoints",
                "Copying experts stops at their level; AlphaGo passed it by trying other ways. Try one with this run. "
                "Press [screen.checkpoints]: there it can begin.",
                need=Need.SAVED,
                meanwhile="A fork begins at a checkpoint, and there is none yet: [run.save] writes one.",
            ),
            Move(
                "checkpoints.fork",
                "Press [checkpoints.fork] for a run that shares the past up to there. Type what is to differ, such as "
                "`sampling.temperature=1.3`, and Enter.",
                need=Need.SAVED,
                meanwhile="A fork begins at a checkpoint, and there is none yet: [run.save] writes one.",
                until=wire.ForkRun,
            ),
            Move(
                "screen.runs",
                "The fork waits in the queue until this run's processor is free. Press [screen.runs] to see both.",
                need=Need.FORKED,
                meanwhile="The fork appears in a moment.",
            ),
            Move(
                "runs.compare",
                "With the cursor on the fork, press [runs.compare]: it stands beside the run you watch, what differs "
                "and what it came to. `ponder compare` says it again later.",
                "One pair of runs is an anecdote: a claim needs several seeds, and the spread between them.",
            ),
        ),
        ("ponder fork {run} --at STEP --set sampling.temperature=1.3", "ponder compare RUN RUN"),
    ),
)

END_TITLE = "The end of the tutorial"
END = (
    "That was all of it; the run goes on, [run.stop] ends it and [app.help] explains every key. Next, in a shell: "
    "`{first}`"
)
END_MORE = "also: {others}"
NEXT = (
    "ponder run rlhf-synthetic",
    "ponder run arithmetic-smollm2",
    "ponder recipes",
    "ponder report {run} -o run.html",
)
"""What to do next, in a shell."""

OVER = (
    "This run is over, and here a living one is needed. [app.leave] leaves; `ponder tutorial` begins another run and "
    "goes on here. Or [tutorial.skip]."
)
HELD = "The run is paused, so nothing comes while it is. [run.pause] lets it go on; then this goes on too."
ELSEWHERE = "This goes on at the {screen} screen: [screen.{name}] leads there."
AMONG_DIGITS = "Digits are places here: [app.back] leads out of the ranking, then it goes on."
