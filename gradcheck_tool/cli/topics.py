"""What `gradtool explain` prints. No torch is imported for it."""

from __future__ import annotations

from typing import get_args

from gradcheck_tool.results import Verdict


def list_of_topics() -> str:
    """All that can be explained, a line each."""
    from gradcheck_tool.rules import all_rules

    rows = [(rule.code, rule.name, rule.summary) for rule in all_rules()]
    width = max(len(name) for _, name, _ in rows)
    lines = [f"{code}  {name:{width}}  {summary}" for code, name, summary in rows]
    return "\n".join([*lines, "", "verdicts  What the probe's verdicts mean, their thresholds and sources.", ""])


def explanation(topic: str) -> str:
    """The text on `verdicts`, on one verdict by its name (the same text), or on a rule."""
    if topic.strip().lower() in ("verdict", "verdicts", *get_args(Verdict)):
        from gradcheck_tool.thresholds import EXPLANATION

        return EXPLANATION.strip() + "\n"
    from gradcheck_tool.rules import find_rule

    rule = find_rule(topic)
    return f"{rule.code} {rule.name}\n\n{rule.explanation.strip()}\n"
