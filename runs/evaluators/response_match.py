"""How much of the expected answer's words does the agent's answer have? (ROUGE-1, f-measure, stemmed)

Chinese, Japanese and Korean are compared letter by letter and scripts such as Thai by syllable
clusters, as they do not put spaces between words.
"""

import re
import unicodedata
from functools import cache, lru_cache
from typing import Any

from runs.evaluators.base import Config, Task, Verdict, average

# Han, Hiragana, Katakana, Hangul: each letter stands for itself.
_LETTERS = "\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af"
# Thai, Lao, Myanmar, Khmer: each base letter begins a cluster, its marks follow.
_CLUSTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_BEGINS = re.compile(f"[{_LETTERS}{_CLUSTERS}]")
_LETTER = re.compile(f"[{_LETTERS}]")


class ResponseMatch:
    name = "response_match_score"
    description = "How many words the answer has in common with the expected one (ROUGE-1)."
    default_threshold = 0.5
    needs_eval_case = True
    waits = False
    Config = Config

    def judge(self, task: Task) -> Verdict:
        compared = zip(task.turns, task.expected, strict=True)
        scores = [_rouge_1(expected.final_text, turn.final_text) for turn, expected in compared]
        return Verdict(average(scores), [*scores])


def _rouge_1(expected: str, actual: str) -> float:
    return float(_scorer().score(expected, actual)["rouge1"].fmeasure)


@cache
def _scorer() -> Any:
    """Made at first use: the import takes a second, and only worker processes that evaluate pay it."""
    from rouge_score import rouge_scorer, tokenizers

    words = _Words(tokenizers.DefaultTokenizer(use_stemmer=True))
    return rouge_scorer.RougeScorer(["rouge1"], tokenizer=words)


class _Words:
    """rouge-score's own tokenizer for ASCII words, which is all it knows, and words of every script."""

    def __init__(self, ascii_words: Any) -> None:
        self._ascii_words = ascii_words

    def tokenize(self, text: str) -> list[str]:
        spaced = "".join(map(_spaced, unicodedata.normalize("NFKC", text).lower()))
        return [token for word in spaced.split() for token in self._tokens(word)]

    def _tokens(self, word: str) -> list[str]:
        return self._ascii_words.tokenize(word) if word.isascii() else [word]


@lru_cache(maxsize=8192)
def _spaced(letter: str) -> str:
    """The letter with the spaces that part it from its neighbours; a space for all that is no letter."""
    is_mark = unicodedata.category(letter).startswith("M")
    if _LETTER.match(letter):
        return f" {letter} "
    if _BEGINS.match(letter) and not is_mark:
        return f" {letter}"
    return letter if letter.isalnum() or is_mark else " "
