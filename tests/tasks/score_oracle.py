"""Scores of random texts by public packages: one line each, measure, candidate, reference, score."""

import random
import sys

from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score import rouge_scorer

rng = random.Random(int(sys.argv[1]))
WORDS = "the a cat sat on mat dog ran far it was happy, Return b+c def x1 (y)".split()


def text(longest, lines):
    count = rng.randint(1, longest)
    return "".join(rng.choice(WORDS) + (rng.choice("\n  ") if lines else " ") for _ in range(count)).strip()


def emit(measure, candidate, reference, score):
    escape = lambda part: part.replace("\n", "\\n")
    print(measure, escape(candidate), escape(reference), repr(score), sep="\t")


rouge = rouge_scorer.RougeScorer(["rougeLsum"], use_stemmer=False)
for _ in range(300):
    candidate, reference = text(24, True), text(24, True)
    emit("rouge", candidate, reference, rouge.score(reference, candidate)["rougeLsum"].fmeasure)
for _ in range(300):
    candidate, reference = text(12, False), text(12, False)
    score = sentence_bleu([reference.split()], candidate.split(), smoothing_function=SmoothingFunction().method4)
    emit("bleu", candidate, reference, float(score))
