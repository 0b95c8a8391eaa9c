"""The gate on usual wordings: templates that ask for an answer are kept, those that state one are refused; a backslash
stays where it is wording."""

import json
from pathlib import Path

import pytest

from paft_ray.config import load_config
from paft_ray.errors import UserError
from paft_ray.prompts.gate import gate, holds_escapes, rejection, repair
from paft_ray.prompts.imports import import_templates
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.user_templates import gated_templates
from paft_ray.tasks.task import Task, load_task


def choice(*labels: str, fields: tuple[str, ...] = ("text",)) -> Task:
    return Task(
        name="t",
        kind="choice",
        description="d",
        fields={f: f for f in fields},
        labels={label: label for label in labels},
    )


SPAM, HAM, TF, TF2 = choice("spam", "not spam"), choice("spam", "ham"), choice("true", "false"), choice("True", "False")
YN, PN, TOPIC = choice("yes", "no"), choice("negative", "positive"), choice("world", "sports", "business", "science")
AB = choice("A", "B", fields=("goal", "sol1", "sol2"))
ENT = choice("entailment", "neutral", "contradiction", fields=("premise", "hypothesis"))
OTH, EMO, MATH = (
    choice("question", "complaint", "other"),
    choice("joy", "anger", "sadness", "other"),
    choice("correct", "incorrect"),
)
ASKING = [
    (SPAM, "{text} Decide whether the message above is spam."),
    (SPAM, "Tell me if this is spam. {text}"),
    (SPAM, "{text}\nTell me if this is spam."),
    (SPAM, "{text}\nIs this message spam or not spam?"),
    (SPAM, "{text}\nIs this spam?"),
    (SPAM, "Is the following message spam? {text}"),
    (SPAM, "{text}\nSay whether it is spam or not spam."),
    (SPAM, "{text}\nWould you call that spam?"),
    (SPAM, "Message: {text}\nSpam or not spam:"),
    (SPAM, "{text}\nAnswer spam or not spam."),
    (SPAM, "{text}\nAnswer: spam / not spam"),
    (SPAM, '{text}\nReply with "spam" or "not spam".'),
    (HAM, "{text}\nDecide if it is spam or ham."),
    (HAM, "{text}\nLabel the message as spam or ham."),
    (HAM, "Check whether the mail is spam.\n\n{text}"),
    (HAM, "{text}\nI wonder if this is spam"),
    (HAM, "{text}\nDoes it look like spam?"),
    (HAM, "{text} Please determine whether the text is spam!"),
    (HAM, "{text}\nWrite spam if the message is spam."),
    (HAM, "{text}\nAnswer (spam/ham):"),
    (TF, "Decide whether the statement is true." + " {text}"),
    (TF, "{text} Decide whether the statement is true."),
    (TF, "{text}\nTrue or false?"),
    (TF, "{text}\nIs the statement true?"),
    (TF, "{text}\nIs it true or false?"),
    (TF, "{text}\nSay if that is true."),
    (TF, "Statement: {text}\nThis statement is true or false:"),
    (TF, "{text}\nRespond true if the statement is true and false if it is false."),
    (TF, "{text}\nCheck that the claim above is true."),
    (TF2, "{text}\nIs this claim True or False?"),
    (TF2, "{text}\nVerify whether the claim is true."),
    (TF, "{text}\nTell whether you believe it to be true"),
    (TF, "{text}\nHow likely is it that this is true?"),
    (YN, "{text}\nAnswer yes or no."),
    (YN, "{text}\nYes or no?"),
    (YN, "{text}\nAnswer with yes or no:"),
    (YN, "Answer the question with yes or no. {text}"),
    (YN, "{text}\nIs the answer yes?"),
    (YN, "{text}\nIs the answer yes or no?"),
    (YN, "{text}\nReply only: yes / no"),
    (YN, "{text}\nYes/No:"),
    (YN, "{text}\nIs it a yes or a no"),
    (YN, "{text} (yes/no)"),
    (PN, "Is this review positive or negative? {text}"),
    (PN, "{text}\nIs this review positive or negative?"),
    (PN, "{text}\nIs the review positive?"),
    (PN, "{text}\nDecide whether the review is positive."),
    (PN, "{text}\nThe sentiment (positive or negative) is"),
    (PN, "{text}\nDo you think this is positive?"),
    (PN, "{text}\nThe options are: negative, positive"),
    (PN, "{text}\nPick one: positive, negative"),
    (PN, "{text}\nOutput 1 for negative, 2 for positive"),
    (PN, "Would you say that the review below is negative?\n{text}"),
    (PN, "{text}\nIs it positive?\nOr is it negative?"),
    (PN, "{text}\nQuestion: is the tone positive?"),
    (PN, "{text}\nTask: tell whether the tone is negative"),
    (PN, "{text} Positive, or negative?"),
    (PN, "{text}\nLabels:\nnegative\npositive"),
    (PN, "{text}\n- positive\n- negative"),
    (PN, "{text}\nAllowed answers: positive and negative"),
    (TOPIC, "{text}\nWhich topic is it: world, sports, business or science?"),
    (TOPIC, "{text}\nTopics: world, sports, business, science"),
    (TOPIC, "{text}\nIs this about sports?"),
    (TOPIC, "Which of world, sports, business, science fits? {text}"),
    (TOPIC, "{text}\nTell me whether this article is business"),
    (TOPIC, "{text}\nCategories:\n1. world\n2. sports\n3. business\n4. science"),
    (TOPIC, "{text}\nWhat is the topic in the news of the world?"),
    (AB, "{goal}\nA: {sol1}\nB: {sol2}\nWhich is better, A or B?"),
    (AB, "{goal} {sol1} {sol2}\nAnswer A or B"),
    (AB, "{goal} {sol1} {sol2}\nDecide whether the better one is A."),
    (ENT, "{premise} {hypothesis}\nentailment, neutral or contradiction?"),
    (ENT, "{premise}\n{hypothesis}\nIs this entailment?"),
    (ENT, "{premise}\n{hypothesis}\nThe relation is one of entailment, neutral, contradiction"),
    (OTH, "{text}\nIs it a question, a complaint or other?"),
    (OTH, "{text}\nAnswer with question, complaint or other"),
    (OTH, "{text}\nIf neither fits, the class is other."),
    (EMO, "{text}\nChoose joy, anger, sadness, or other."),
    (MATH, "{text}\nDecide if the solution is correct."),
    (MATH, "{text}\nIs this correct?"),
    (MATH, "{text}\nPlease judge whether the answer is correct"),
    (MATH, "{text}\nMake sure that your answer is correct."),
    (PN, "{text}\nAnswer with a number.\n0: negative\n1: positive"),
    (HAM, "{text}\nChoose:\n> ham\n> spam"),
    (OTH, "{text}\nIf neither fits, answer: other"),
    (TF, "{text}\nSay which of the two readings is true."),
    (TF, "{text}\nDecide whether the statement\nis true."),
    (TF, "{text}\nMake sure that what you call true is true."),
    (TF, "{text}\nChoose the option that is true."),
    (SPAM, "{text}\nA message without a sender is spam."),
    (EMO, "{text}\nEvery text without a feeling is other."),
    (TF, "{text}\nAny claim with a source is true."),
    (MATH, "{text}\nMake sure the answer is correct."),
    (PN, "{text}\nPlease verify the tone is positive."),
    (YN, "{text}\nIf the reviewer would come back, say yes, else: no"),
]
STATING = [
    (PN, "{text}\nAnswer: positive"),
    (PN, "{text}\nAnswer: **Negative**."),
    (PN, "{text}\nThe sentiment is positive"),
    (PN, "{text}\nThe answer is positive."),
    (PN, "{text} Positive or negative? Answer: negative"),
    (PN, "{text}\nIs that positive or negative?\npositive"),
    (SPAM, "{text}\nThe answer is spam."),
    (SPAM, "{text}\nLabel: spam"),
    (SPAM, "{text}\nAnswer: not spam"),
    (SPAM, "{text}\nThe correct label is not spam."),
    (HAM, "{text}\nThis message is spam."),
    (HAM, "{text}\nIs this spam? Answer: spam"),
    (TF, "{text}\nThis statement is true."),
    (TF, "{text}\nTrue or false? The answer is true."),
    (TF, "{text}\nTrue or false? False"),
    (TF, "{text}\nVerdict: false"),
    (YN, "{text}\nAnswer: yes"),
    (YN, "{text}\nYes or no? no"),
    (YN, "{text}\nThe answer is: no."),
    (YN, "{text}\nQ: yes or no?\nA: yes"),
    (TOPIC, "{text}\nTopic: sports"),
    (TOPIC, "{text}\nThe topic is business."),
    (TOPIC, "{text}\nCategory -> world"),
    (TOPIC, "{text}\nWhich topic is it: world, sports, business or science? Answer = science"),
    (AB, "{goal} {sol1} {sol2} Answer: A"),
    (AB, "{goal} {sol1} {sol2}\nThis is a test. Reply: (B)"),
    (AB, "{goal} {sol1} {sol2}\nThe correct answer is B"),
    (ENT, "{premise} {hypothesis}\nRelation: neutral"),
    (OTH, "{text}\nClass: other"),
    (EMO, "{text}\nEmotion => joy"),
    (MATH, "{text}\nThe solution is correct."),
    (MATH, "{text}\nJudgement: incorrect"),
    (SPAM, "{text}\nspam"),
    (YN, "{text} yes"),
    (PN, "{text}\nDecide whether the review is positive. Answer: positive"),
    (PN, "{text}\nIs it positive? It is positive."),
    (SPAM, "{text}\nI think that this message is spam."),
    (TF, "{text}\nTrue or false?\nThat is true."),
    (SPAM, "{text}\nDecide whether it is spam: spam"),
    (PN, "{text}\nA clear case, the review is positive."),
    (SPAM, "{text}\nAny reader sees it is spam."),
    (TF, "{text}\nA short claim. This is true."),
]


@pytest.mark.parametrize(("task", "text"), ASKING)
def test_usual_templates_that_ask_are_kept(task: Task, text: str) -> None:
    assert rejection(PromptTemplate(text=text), task, max_words=120) is None


@pytest.mark.parametrize(("task", "text"), STATING)
def test_templates_that_state_the_answer_are_refused(task: Task, text: str) -> None:
    assert rejection(PromptTemplate(text=text), task, max_words=120) == "leaks_answer"


KEPT = [
    r"Let $x \neq 0$ and write $\theta$ for it. {text}",
    r"Read C:\new\table.txt, then {text}",
    r"\nabla, \nu and \tau: {text}",
    r"$a \nRightarrow b$ and $\Theta \times \text{{n}}$: {text}",
    r"Match [^\n]+\t\d+ in {text}",
    r"Split at each \n and answer. {text}",
    r"What does print(\"A\nB\") show? {text}",
    r"What does `echo A\nB` show? {text}",
    r"On \\server\nas\tools: {text}",
    r"C:\nAdmin holds {text}",
    r"$\frac{{1}}{{2}}$\nAnswer: {text}",
    r"Let \(\tau = 1\).\nAnswer: {text}",
]
PLAIN = [f"Wording {word}: {{text}} Good or bad?" for word in ("one", "two", "three")]
REAL = ["Review: {text}\nGood or bad?", "{text}\n\nWhat is it?"]
ESCAPED = [
    r"Review: {text}\nGood or bad?",
    r"{text}\n\nWhat is it?",
    r"Text:\n{text}\nLabel:\n",
    r"Is it good?\n {text}",
]


def written(path: Path, texts: list[str]) -> str:
    if path.suffix == ".txt":
        path.write_text("\n".join(texts))
    elif path.suffix == ".json":
        path.write_text(json.dumps(texts))
    else:
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.mark.parametrize("others", [[], PLAIN, REAL], ids=["alone", "among plain ones", "among real line breaks"])
@pytest.mark.parametrize("text", KEPT)
def test_a_backslash_of_the_wording_is_kept_in_every_file(tmp_path: Path, text: str, others: list[str]) -> None:
    config, task = load_config("jobs/configs/demo.yaml"), load_task("demo")
    path = written(tmp_path / "a.jsonl", [*others, text])
    assert gated_templates(path, config, task)[-1].text == text
    result = import_templates([path], task, 120)
    assert (result.kept[-1].text, result.repaired) == (text, {})


@pytest.mark.parametrize("text", KEPT)
def test_a_model_s_answer_and_a_system_part_keep_their_backslashes(text: str) -> None:
    assert repair(PromptTemplate(text=text)) == (PromptTemplate(text=text), [])
    template = PromptTemplate(text="Good? {text}", system=text.replace("{text}", "it"))
    assert repair(template) == (template, [])


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt"])
def test_a_file_that_writes_its_line_breaks_as_backslash_n_is_repaired(tmp_path: Path, name: str) -> None:
    result = import_templates([written(tmp_path / name, [*ESCAPED, *PLAIN])], load_task("demo"), 120)
    assert [template.text for template in result.kept[:4]] == [*REAL, "Text:\n{text}\nLabel:\n", "Is it good?\n {text}"]
    assert result.repaired == {"literal_newline": 4}


def test_in_such_a_file_doubtful_line_breaks_are_repaired_and_commands_kept() -> None:
    doubtful = [r"{text}\n// Look closely.\nGood or bad?", r"{text} Good\n, or bad?", r"Let $x \neq 0$.\n{text}"]
    result = gate([*ESCAPED, *doubtful], load_task("demo"), max_words=120)
    assert [t.text for t in result.kept[4:]] == [
        "{text}\n// Look closely.\nGood or bad?",
        "{text} Good\n, or bad?",
        "Let $x \\neq 0$.\n{text}",
    ]
    assert not holds_escapes([PromptTemplate(text=text) for text in [*doubtful, *REAL]])


@pytest.mark.parametrize("text", ESCAPED)
def test_a_model_s_answer_is_repaired_where_it_leaves_no_doubt(text: str) -> None:
    template, repairs = repair(PromptTemplate(text=text))
    assert (template.text, repairs) == (text.replace("\\n", "\n"), ["literal_newline"])


def test_a_seed_file_that_states_an_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="template 2 is refused: leaks_answer"):
        gated_templates(
            written(tmp_path / "a.jsonl", ["Good? {text}", "{text} The answer is positive."]),
            load_config("jobs/configs/demo.yaml"),
            load_task("demo"),
        )
