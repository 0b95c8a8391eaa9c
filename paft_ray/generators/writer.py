"""A generator in a run: what it has written so far, what became of it, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from paft_ray.config import GeneratorConfig, PromptsConfig
from paft_ray.prompts.prompt_set import Entry
from paft_ray.prompts.template import PromptTemplate

_MOST_PER_ANSWER = 8
_TOKENS_PER_WORD = 4 / 3  # of English


@dataclass(kw_only=True)
class Candidate:
    """What a generator wrote as one template, and what became of it."""

    template: PromptTemplate
    """Repaired; the complete answer where no template could be read in it."""
    text: str
    """As it was written."""
    request: int
    """Number of the request."""
    origin: dict[str, Any]
    """`strategy`, `axes`, `grammar_share` and, where a template was rewritten, its content id as `rewrites`."""
    attempt: int
    """Number of the round."""
    rejected: str | None
    """Why it is not used."""
    tokens: int = 0
    """Of the answer, at its first template; 0 at the others."""
    score: float | None = None
    """Of the signal that decided on it."""

    def entry(self, source: str) -> Entry:
        """As a prompt set holds it."""
        return Entry(template=self.template, provenance={"source": source, **self.origin, "attempt": self.attempt})

    def row(self, source: str) -> dict[str, Any]:
        """As raw.jsonl holds it."""
        return {
            "generator": source,
            "request": self.request,
            **self.origin,
            "text": self.text,
            **({} if self.template.system is None else {"system": self.template.system}),
            "tokens": self.tokens,
            "rejected": self.rejected,
        }


@dataclass(kw_only=True)
class Writer:
    """A generator with what it has written so far, and what that cost."""

    generator: GeneratorConfig
    target: int
    """Templates wanted from it."""
    per_answer: int
    """Templates that a request asks for."""
    candidates: list[Candidate] = field(default_factory=list)
    rounds: int = 0
    engine_starts: int = 0
    requests: int = 0
    answers: int = 0
    """Requests that got an answer."""
    tokens: int = 0
    """Generated ones."""
    time_s: float = 0.0
    """Waited for its answers, starts of an engine included."""
    passed: int = 0
    """Candidates that were fit to be selected."""
    silent: bool = False
    """Whether an endpoint gave no answer in a complete round; it gets no other request."""

    @classmethod
    def of(cls, generator: GeneratorConfig, target: int, settings: PromptsConfig) -> Writer:
        """A generator that has written nothing: an answer of its longest form has room for `per_answer` templates of
        the longest form."""
        room = int(generator.longest_text // (_TOKENS_PER_WORD * settings.max_words))
        return cls(generator=generator, target=target, per_answer=max(1, min(_MOST_PER_ANSWER, room)))

    @property
    def fit(self) -> list[Candidate]:
        """Candidates that nothing was found against."""
        return [candidate for candidate in self.candidates if candidate.rejected is None]

    @property
    def accepted(self) -> list[Entry]:
        """Entries of a prompt set."""
        return [candidate.entry(self.generator.label) for candidate in self.fit]

    @property
    def raw(self) -> list[dict[str, Any]]:
        """Every candidate with the reason of its rejection, None where it was accepted."""
        return [candidate.row(self.generator.label) for candidate in self.candidates]

    @property
    def yields(self) -> dict[str, Any]:
        """What it was asked for, what that cost, and what came of it."""
        return {
            "source": self.generator.label,
            "asked": self.target,
            "requests": self.requests,
            "answers": self.answers,
            "tokens": self.tokens,
            "time_s": round(self.time_s, 1),
            "candidates": len(self.candidates),
            "passed": self.passed,
            "kept": len(self.fit),
        }

    @property
    def guided(self) -> bool:
        """Whether its answers are under the grammar."""
        return self.generator.endpoint is None or self.generator.endpoint.grammar

    @property
    def wants_more(self) -> bool:
        return len(self.fit) < self.target and not self.silent

    @property
    def budgeted(self) -> GeneratorConfig:
        """The generator with what is left of its token limit."""
        return self.generator.after(self.tokens)
