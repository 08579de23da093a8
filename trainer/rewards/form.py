"""Whether an answer has the form of R1-Zero's template: thinking, then an answer, each in its tags.

    <think> ... </think> <answer> ... </answer>        arXiv:2501.12948, table 1 and section 2.2.2

What is tolerated: white space around and between the tags; an opening `<think>` that is missing, because many templates
end with it and it then belongs to the prompt. What is not: any other text outside the tags, a tag written twice, an
empty answer, another order, other letter case. Deliberately left out: what stands inside the tags, and partial credit,
which teaches to write tags.
"""

from __future__ import annotations

THINK, THOUGHT, ANSWER, ANSWERED = "<think>", "</think>", "<answer>", "</answer>"


def tag_form(text: str) -> float:
    """1 for the form of the module's docstring, else 0.

    >>> tag_form("<think>7 + 8 is 15</think> <answer>15</answer>"), tag_form("7 + 8 is 15</think><answer>15</answer>")
    (1.0, 1.0)
    >>> tag_form("The answer is <answer>15</answer>"), tag_form("<think></think><answer> </answer>")
    (0.0, 0.0)
    """
    counts = [text.count(tag) for tag in (THINK, THOUGHT, ANSWER, ANSWERED)]
    if counts not in ([0, 1, 1, 1], [1, 1, 1, 1]):
        return 0.0
    thought, _, rest = text.partition(THOUGHT)
    before, opened, _ = thought.partition(THINK)
    between, _, rest = rest.partition(ANSWER)
    answer, closed, after = rest.partition(ANSWERED)
    is_clean = not between.strip() and not after.strip() and not (opened and before.strip())
    return float(bool(closed and answer.strip()) and is_clean and ANSWER not in thought and ANSWERED not in thought)
