"""Grader `near_label`: labels are steps of a scale, and a near one is better than a far one.

In a task:                          grader: {type: near_label}
                                    labels: [terrible, bad, mixed, good, great]
In pyproject.toml of your package:  [project.entry-points."paft_ray.graders"]
                                    near_label = "near_label:NearLabel"
"""

from dataclasses import dataclass

from paft_ray.tasks.graders.choice import Choice


@dataclass(frozen=True, kw_only=True)
class NearLabel:
    """Between 0 and 1: 1 for the right label, 0 for the other end of the scale. Answers are read as `choice` does."""

    labels: tuple[str, ...]
    is_graded = True

    def parse(self, completion):
        """The label that the answer begins with."""
        return Choice(labels=self.labels).parse(completion)

    def parse_strict(self, completion):
        """The label that the answer is."""
        return Choice(labels=self.labels).parse_strict(completion)

    def score(self, prediction, example):
        """1 less the share of the scale that lies between both labels."""
        steps = abs(self.labels.index(prediction) - self.labels.index(example.answer))
        return 1 - steps / (len(self.labels) - 1)


GRADERS = {"near_label": NearLabel}
