"""Frames: sentences that ask for a task. Own texts; the idea of composing formats from a grammar is FormatSpread's
(Sclar et al. 2024, arXiv 2310.11324).

`<do>` stands for the task's description in small letters without its period, `<Do>` for the same as the beginning of a
sentence, `<Please do>` for it with or without a `Please`, `<it>` for what is given, `<below>` for where it stands.
A frame asks in every sentence that it is used in for the complete task, so none of its words is of one kind of task.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

Place = Literal["any", "first", "last"]
Scope = Literal["any", "choice", "plain"]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One way to ask."""

    family: str
    ask: str
    """The request."""
    place: Place = "any"
    """Whether it may stand before (`first`) or behind what is given (`last`)."""
    close: str = ""
    """What stands before the answer, where the frame decides it."""
    scope: Scope = "any"
    """`choice`: for tasks with labels. `plain`: for tasks without lettered options."""

    id: str = ""
    """Its name in the provenance: family and number in it."""


def _named(*frames: Frame) -> tuple[Frame, ...]:
    """The frames, each with its id."""
    numbers = Counter[str]()
    named = []
    for frame in frames:
        named.append(replace(frame, id=f"{frame.family}-{numbers[frame.family]}"))
        numbers[frame.family] += 1
    return tuple(named)


def _frames(family: str, *asks: str, place: Place = "any", scope: Scope = "any") -> list[Frame]:
    return [Frame(family=family, ask=ask, place=place, scope=scope) for ask in asks]


def _closed(family: str, *pairs: tuple[str, str], place: Place = "first", scope: Scope = "any") -> list[Frame]:
    return [Frame(family=family, ask=ask, close=close, place=place, scope=scope) for ask, close in pairs]


FRAMES: tuple[Frame, ...] = _named(
    *_frames(
        "instruction",
        "<Please do>.",
        "Your task is to <do>.",
        "The aim of this exercise is to <do>.",
        "In this assignment, you have to <do>.",
        "You are asked to <do>. Take your time, and think before you commit yourself.",
        "What needs to be done is simple: <do>.",
        "Work with what is given <below> and <do>.",
        "Use your best judgment and <do>.",
        "Pay attention to every detail and <do>.",
        "It is easy to make a mistake here, so <do>, and check the result twice.",
        "Everything required is on this page. Now <do>.",
        "Before going on, <do>.",
        "An earlier attempt to <do> failed. Try again, and be more careful.",
        "This page of the handbook explains how to <do>. Apply it to the case <below>.",
    ),
    *_frames(
        "instruction",
        "Carefully read <it>, then <do>.",
        "1. Study <it>.\n2. <Do>.\n3. Write down the outcome.",
        "Follow two steps. First, look at <it>. Second, <do>.",
        place="first",
    ),
    *_frames(
        "instruction",
        "Be brief: <do>, and add nothing else.",
        "Skip all explanations and simply <do>.",
        "One minute is left on the clock. Use it to <do>.",
        scope="choice",
    ),
    *_frames(
        "request",
        "Could you please <do>?",
        "Would you be so kind as to <do>?",
        "I would like you to <do>, and I thank you in advance.",
        "Can you help me <do>? I would really appreciate your support.",
        "I have been trying to <do>, but I am stuck. Can you take over?",
        "May I ask you to <do>?",
        "My colleagues and I need to <do>. We would be grateful if you did it for us.",
        "Do me a favor and <do>.",
        "I wonder if you could <do>.",
        "Would it be possible for you to <do>? I need the result today.",
        "It would save us a lot of work if you could <do>.",
        "Sorry to bother you, but could you <do>?",
        "Kindly <do>.",
    ),
    *_frames(
        "request",
        "Hello there! I am hoping to find somebody who can <do>. Is that something you can manage?",
        place="first",
    ),
    *_frames(
        "question",
        "If you had to <do>, what would your answer be?",
        "Suppose that a friend asks you to <do>. What do you reply?",
        'What is the correct response to somebody who says, "<Do>"?',
        "How would an expert respond when told to <do>?",
        "Imagine being asked to <do>. What would you say?",
        "What would you write down after being told to <do>?",
        "Asked to <do>, what should an attentive reader answer?",
        "What should the answer key say for an exercise that tells students to <do>?",
        "Are you able to <do>? Then what is your solution?",
    ),
    *_frames(
        "question",
        "Which answer is right if the assignment is to <do>?",
        "Two people could not agree when they were asked to <do>. What is your opinion?",
        scope="choice",
    ),
    *_frames(
        "form",
        "Task: <Do>.",
        "Instruction: <Do>.",
        "What to do: <Do>.",
        "Objective: <Do>.",
        "ANNOTATION FORM\nGuideline for annotators: <Do>.",
        "WORKSHEET\nExercise 1: <Do>.",
        "Ticket no. 27\nRequested by: the editors\nTo do: <Do>.",
        "Questionnaire, item 7\nWording of the item: <Do>.",
        "## Assignment\n<Do>.",
        "Order form\nService wanted: <Do>.\nDelivery: as soon as possible",
        place="first",
    ),
    *_frames(
        "exam",
        "In this part of the test, candidates have to <do>.",
        "Quiz time! In this round, players have to <do>.",
        "Homework for Tuesday: <do>.",
        "The teacher hands out the exercise <below> and tells the class to <do>. Write what would earn full marks.",
        "Practice makes perfect. In today's lesson, we learn how to <do>. Now it is your turn.",
        "A final examination asked students to <do>. Give the answer that the examiners expected.",
    ),
    *_frames("exam", "Exam question. <Do>. A right answer earns one point.", place="first"),
    *_frames(
        "role",
        "You are an experienced annotator. Your job is to <do>.",
        "Imagine that you are a teacher who shows a class how to <do>.",
        "Act as a careful assistant whose only duty is to <do>.",
        "You work for a newspaper, and the chief editor has told you to <do>.",
        "You are taking part in a scientific study. The researchers want you to <do>.",
        "Put yourself in the position of a specialist who is paid to <do>.",
        "You are a computer program that was built to <do>.",
        "Play the part of a librarian. A visitor wants you to <do>.",
        "You are the manager on duty tonight, and nobody goes home until you <do>.",
        "As a contestant in a game show, you now have to <do>.",
        "You are an intern, and your supervisor expects you to <do>.",
        "Speak as a wise old judge would, and <do>.",
        "You have trained for years to <do>. Now show your skill.",
    ),
    *_frames(
        "story",
        "A stranger stops you in the street and begs you to <do>.",
        "In an experiment, volunteers were told to <do>. What would a sensible volunteer have put down?",
        "This is a game. Your move is to <do>. A wrong move costs you a point.",
        "Engineers have built a robot that can <do>. What will appear on its screen in the case <below>?",
        "A data set lacks one entry. To supply it, <do>.",
        "Many people find it hard to <do>. Prove that you do not.",
        'The documentation of a function says: "<Do>." What does the function return for the input <below>?',
        "Somebody who has lost their glasses relies on you to <do>.",
        "A company pays you to <do>. It expects a result that holds up.",
        "On a long train ride, you come across a puzzle that asks you to <do>. What is your solution?",
        'A note on your desk says: "<Do>." Get down to it at once.',
    ),
    *_closed(
        "dialogue",
        (
            "Teacher: Today, I want you to <do>. Who wants to go first?\nStudent: I do.\nTeacher: Here you are.",
            "Student:",
        ),
        ("Anna: Can you help me <do>?\nBen: Sure, show me.\nAnna: This is what I have.", "Ben:"),
        (
            "Interviewer: As a test, please <do>.\nCandidate: I am ready.\nInterviewer: Good, look at this.",
            "Candidate:",
        ),
        (
            "Customer: I was told that you can <do>.\nClerk: That is right. What do you have?\nCustomer: Only this.",
            "Clerk:",
        ),
        ("Boss: I need someone to <do>.\nSecretary: Leave it to me.\nBoss: These are the details.", "Secretary:"),
        ("Question from a reader: could you <do>?", "Reply from our expert:"),
        ('The coach said: "<Do>." The trainee looked at this:', "The trainee responded:"),
        (
            "Grandfather: In my day, every child knew how to <do>.\nGrandchild: So do I! Try me.\nGrandfather: Good.",
            "Grandchild:",
        ),
    ),
    *_closed("dialogue", ("Q: <Please do>.", "A:"), scope="plain"),
    *_closed(
        "letter",
        (
            "Dear colleague,\nmay I trouble you with a small matter? Please <do>.\nBest wishes,\nMaria",
            "Reply to Maria:",
        ),
        (
            "Subject: a small request\n\nHi,\ncould you <do>? All details are in this message.",
            "Re: a small request\n\n",
        ),
        ("Dear Sir or Madam,\nI am writing to ask you to <do>.\nYours faithfully,\nJ. Miller", "Dear J. Miller,\n"),
        ('Post in an online forum: "Can anybody <do>? I have no idea where to begin."', "Most helpful comment:"),
        ("Message to the whole team: today, everybody has to <do>. This one is yours.", "Message from you:"),
    ),
    *_closed(
        "cloze",
        ("", "The request was to <do>, and the right answer is"),
        ("", "I was asked to <do>. After some thought, my answer is"),
        ("", "Anyone who has to <do> should answer"),
        ("", "When experts were told to <do>, nearly all of them chose"),
        ("", "People who know how to <do> will agree that the answer is"),
        place="last",
        scope="choice",
    ),
    *_closed(
        "cloze",
        ("", "An exercise tells students to <do>. The model answer reads:"),
        ("", "A good student was told to <do>. The student wrote:"),
        ("", "The manual of our department explains how to <do>. Someone who had followed it noted:"),
        place="last",
    ),
    *_frames("few words", "<Do>:", place="first"),
    *_frames("few words", "<Do>.", "To do: <do>.", "Job: <do>.", place="last"),
)
"""All frames. A new one goes to the end of its family: its number is its name."""
