"""What weighs answers, without torch: it says what the prompt of its question wants it to say.

`hold` tells one row and then waits for the end of its stdin, `crash` ends with 3 after one, `nothing` leaves every step
out, `rubbish` prints a line that is none; all else tells a row of steps 0 and 2.
"""

from __future__ import annotations

import sys

import msgspec

from daemon.weighing import Line, Question
from ponder.wire import CheckpointOdds, TokenOdds


def tell(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def row(step: int, question: Question) -> Line:
    words = question.answer.split()
    return Line(row=CheckpointOdds(step, -0.5 * len(words) - step, [TokenOdds(word, -0.5) for word in words]))


def main() -> int:
    question = msgspec.json.decode(sys.stdin.buffer.readline(), type=Question)
    tell(Line(steps=[0, 2], doing="step 0"))
    if question.prompt == "rubbish":
        sys.stdout.buffer.write(b"no line\n")
    if question.prompt == "nothing":
        tell(Line(left_out=(0, "a reward model's")))
        tell(Line(left_out=(2, "a reward model's, too")))
        return 0
    tell(row(0, question))
    if question.prompt == "crash":
        return 3
    if question.prompt == "hold":
        sys.stdin.buffer.read()
        return 0
    tell(row(2, question))
    return 0


if __name__ == "__main__":
    sys.exit(main())
