"""Grader `contains_all`: an answer is right if it names every part of the reference, in any order.

In a task:           grader: {type: contains_all, separator: ";"}
In a configuration:  plugins: [my/contains_all.py]
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ContainsAll:
    """Right or wrong. The reference is a list, such as `red; green; blue`."""

    separator: str = ";"
    labels = ()
    is_graded = False

    def parse(self, completion):
        """The answer without the line breaks and spaces around it; None for an empty one."""
        return " ".join(completion.split()) or None

    def parse_strict(self, completion):
        """The first line alone: what a model goes on to say does not count."""
        return self.parse(completion.strip().split("\n")[0])

    def score(self, prediction, example):
        """1 where every part of the reference stands in the answer, in any case."""
        parts = [part.strip().casefold() for part in example.answer.split(self.separator)]
        return float(all(part in prediction.casefold() for part in parts))


GRADERS = {"contains_all": ContainsAll}
