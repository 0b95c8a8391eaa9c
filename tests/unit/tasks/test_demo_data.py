"""The demo data keeps its promises: balanced and varied."""

import json
import re
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

DEMO = Path(__file__).resolve().parents[3] / "paft_ray" / "tasks" / "data" / "demo"
SPLITS = {"train": 400, "validation": 100, "test": 150}
LABELS = ("negative", "positive")


def read(name):
    lines = (DEMO / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def all_rows():
    return [row for split in SPLITS for row in read(split)]


def words(text):
    return re.sub(r"[^\w\s]|_", "", re.sub(r"[-/|]", " ", text.lower())).split()


def runs(text, length):
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def jaccard(left, right):
    return len(left & right) / max(1, len(left | right))


def test_each_split_has_enough_rows_with_exactly_the_expected_columns():
    for split, least in SPLITS.items():
        rows = read(split)
        assert len(rows) >= least, split
        for row in rows:
            assert set(row) == {"id", "text", "label"}, row
            assert row["label"] in LABELS, row
            assert row["text"] == " ".join(row["text"].split()), row


def test_labels_are_exactly_balanced_in_each_split():
    for split in SPLITS:
        count = Counter(row["label"] for row in read(split))
        assert count["negative"] == count["positive"], (split, count)


def test_ids_and_texts_are_unique_across_splits():
    rows = all_rows()
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({" ".join(words(row["text"])) for row in rows}) == len(rows)


def test_no_two_rows_share_over_half_of_their_word_trigrams():
    texts = [row["text"] for row in all_rows()]
    trigrams = [runs(text, 3) for text in texts]
    assert all(trigrams)
    holders = defaultdict(list)
    for number, found in enumerate(trigrams):
        for trigram in found:
            holders[trigram].append(number)
    pairs = {pair for numbers in holders.values() for pair in combinations(numbers, 2)}
    for a, b in pairs:
        assert jaccard(trigrams[a], trigrams[b]) <= 0.5, (texts[a], texts[b])


def test_no_run_of_five_words_stands_in_more_than_three_rows():
    count = Counter(run for row in all_rows() for run in runs(row["text"], 5))
    often = {" ".join(run): times for run, times in count.items() if times > 3}
    assert not often


def test_no_opening_of_two_words_starts_more_than_three_percent_of_rows():
    rows = all_rows()
    count = Counter(tuple(words(row["text"])[:2]) for row in rows)
    often = {pair: times for pair, times in count.items() if times > 0.03 * len(rows)}
    assert not often


def test_rows_are_short_reviews_that_do_not_name_their_label():
    lengths = []
    for row in all_rows():
        found = words(row["text"])
        lengths.append(len(found))
        assert 3 <= len(found) <= 30, row
        assert not set(found) & set(LABELS), row
    assert 8 <= sum(lengths) / len(lengths) <= 20
