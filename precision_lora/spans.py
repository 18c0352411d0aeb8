"""Which characters of a medical text are of which kind: what the training weights are looked up by.

Numbers are what `quantities` reads. Terms are found by `tagger`. Diagnosis, treatment and empathy are said by whole
clauses, and a clause may say several of them at once: `clause_network` tells which. Both models see the words of the
tables and the compounds of `span_rules` beside the characters. span_model/guideline.md is the guideline by which their
texts were annotated.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from precision_lora import clause_network, knowledge, quantities, span_rules, tagger
from precision_lora.numerals import fold

KINDS = ("term", "number", "diagnosis", "treatment", "empathy")

# Table category -> class. Categories that are missing here are no terms by themselves.
_CLASS_OF_CATEGORY = {
    "disease": span_rules.DISEASE,
    "symptom": span_rules.SYMPTOM,
    "examination": span_rules.TEST,
    "indicator": span_rules.TEST,
    "treatment": span_rules.REMEDY,
    "procedure": span_rules.REMEDY,
    "drug_class": span_rules.REMEDY,
    "department": span_rules.PLACE,
}
_MASK = "-"
_UNMARKED_CATEGORIES = {"lifestyle", "habit", "context"}
# Dimensions whose measures are medical nouns; the names of amounts, durations and counts are everyday words.
_MEDICAL_DIMENSIONS = frozenset(
    (
        "pressure", "frequency_per_minute", "frequency_per_hour", "fraction", "fraction_ppb", "length", "volume",
        "flow", "temperature", "body_mass_index", "dimensionless", "substance_concentration", "mass_concentration",
        "arbitrary_concentration", "count_concentration", "count_per_field", "enzyme_activity", "clearance",
        "ratio_mass", "score", "score_sd", "sound_level",
    )
)  # fmt: skip
_EVERYDAY_MEASURE = re.compile("湿度|室温|室内|温度|减重|体重下降|个子|按压|保存|直径|大小")
# Symbols that folding makes one with everyday Latin.
_ELEMENTS = frozenset(("ca", "na", "fe", "cl", "mg", "pa", "ga"))
# Verbs as much as nouns: the rules read them together with what follows (热敷脖子).
_ALSO_VERBS = frozenset(("热敷", "冷敷", "冰敷", "湿敷"))
# Enough to make the cost of array operations small, few enough for the arrays to stay in the cache.
_TEXTS_AT_A_TIME = 32
_CHINESE = re.compile("[\u3400-\u9fff]")
# What ends a clause. A comma or colon between two digits does not.
_CLAUSE_END = re.compile(r"(?:[，。；！？：;!?…~\n]|(?<!\d)[,:]|[,:](?!\d))+")


@dataclass(frozen=True, order=True)
class Span:
    """Characters ``start`` to ``end`` (exclusive) of the text are of ``kind``, one of ``KINDS``."""

    start: int
    end: int
    kind: str


@cache
def _lexicon() -> dict[str, str]:
    """All known medical words, folded, and the class of each; "" for a term without class.

    Words that are no terms (context, lifestyle) are there too, as ``_MASK``: 多饮水 hides 多饮.
    """
    classes: dict[str, str] = {}
    units = {fold(form) for unit in knowledge.units() for form in (unit.unit, *unit.forms)}
    for measure in knowledge.quantities_table():
        if measure.dimension in _MEDICAL_DIMENSIONS:
            said = (name for name in measure.names if len(name) > 1 and not _EVERYDAY_MEASURE.search(name))
            said = (name for name in said if fold(name) not in units | _ELEMENTS)
            classes |= dict.fromkeys(map(fold, said), span_rules.TEST)
    for term in knowledge.terms():
        names = [fold(name) for name in (term.term, *term.aliases)]
        if term.category not in _UNMARKED_CATEGORIES:
            word_class = _CLASS_OF_CATEGORY.get(term.category, "")
            classes |= {name: "" if name in _ALSO_VERBS else word_class for name in names}
        else:
            classes |= dict.fromkeys(names, _MASK)
    for drug in knowledge.drugs():
        classes |= dict.fromkeys(map(fold, (drug.name, *drug.aliases)), span_rules.DRUG)
    return classes


@cache
def _word_lengths() -> tuple[re.Pattern[str], dict[str, tuple[int, ...]]]:
    """Which characters begin a word of the lexicon, and how long those words are, longest first."""
    lengths: dict[str, set[int]] = {}
    for word in _lexicon():
        lengths.setdefault(word[0], set()).add(len(word))
    starts = re.compile(f"[{re.escape(''.join(sorted(lengths)))}]")
    return starts, {first: tuple(sorted(sizes, reverse=True)) for first, sizes in lengths.items()}


def _longest_words(text: str) -> Iterator[tuple[int, int]]:
    """The longest lexicon word at each position, left to right; looked up by length, as a dictionary is
    five times faster here than a prefix tree in a regular expression."""
    starts, lengths = _word_lengths()
    words = _lexicon()
    search = starts.search
    position = 0
    while match := search(text, position):
        position = match.start()
        for length in lengths[text[position]]:
            if position + length <= len(text) and text[position : position + length] in words:
                yield position, position + length
                position += length
                break
        else:
            position += 1


_DRUG_AFTER = re.compile(span_rules.DRUG_AFTER)
_WITH_FORM = {
    span_rules.SYMPTOM: (re.compile(span_rules.DISEASE_BEFORE + "$"), None),
    span_rules.DISEASE: (re.compile(span_rules.DISEASE_BEFORE + "$"), None),
    span_rules.DRUG: (re.compile(span_rules.DRUG_BEFORE + "$"), _DRUG_AFTER),
}


def _is_latin(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _entities(text: str) -> list[tuple[int, int, str]]:
    """(start, end, class or "") of the medical words of folded ``text``, compounds and forms included."""
    classes = _lexicon()
    found: list[tuple[int, int, str]] = []
    for match in span_rules.COMPOUND.finditer(text):
        name = match.lastgroup
        word_class = {"symptom": span_rules.SYMPTOM, "test": span_rules.TEST}.get(name or "", span_rules.DISEASE)
        found.append((*match.span(), word_class))
    for start, end in _longest_words(text):
        if _is_latin(text[start]) and start and _is_latin(text[start - 1]):
            continue
        if _is_latin(text[end - 1]) and end < len(text) and _is_latin(text[end]):
            continue
        word_class = classes[text[start:end]]
        if word_class == _MASK:
            continue
        before, after = _WITH_FORM.get(word_class, (None, None))
        if before and (form := before.search(text, max(0, start - 12), start)):
            start = form.start()
        if after and (form := after.match(text, end)):
            end = form.end()
        found.append((start, end, word_class))
    known = {end for _, end, word_class in found if word_class == span_rules.DRUG}
    starts = {start for start, _, word_class in found if word_class == span_rules.DRUG}
    for match in span_rules.DRUG_STEM.finditer(text):
        head = span_rules.DRUG_STEM_BEFORE.search(text, max(0, match.start() - 4), match.start())
        form = _DRUG_AFTER.match(text, match.end())
        end = form.end() if form else match.end()
        if head and end not in known and match.end() not in known and match.start() not in starts:
            found.append((head.start(), end, span_rules.DRUG))
    for match in span_rules.SYNDROME.finditer(text):
        if name_of := span_rules.SYNDROME_NAME.search(text, max(0, match.start() - 5), match.start()):
            found.append((name_of.start(), match.end(), span_rules.DISEASE))
    return found


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start] in " ，,、。；;：:！!？?…~\n(（)）":
        start += 1
    while start < end and text[end - 1] in " ，,、。；;：:！!？?…~\n(（":
        end -= 1
    return start, end


def clauses(text: str) -> list[tuple[int, int]]:
    """(start, end) of the clauses in order, each with the punctuation that ends it."""
    ends = [match.end() for match in _CLAUSE_END.finditer(text)]
    if text and (not ends or ends[-1] < len(text)):
        ends.append(len(text))
    return list(itertools.pairwise([0, *ends]))


def _tags(length: int, entities: Iterable[tuple[int, int, str]], numbers: list[quantities.Quantity]) -> np.ndarray:
    """What the models are told of each character, uint64 (length,): class and place (alone, first, inside, last)."""
    tags = np.zeros(length, dtype=np.uint64)
    for start, end, word_class in sorted(entities, key=lambda entity: entity[1] - entity[0]):
        first = 4 * (span_rules.CLASSES.index(word_class) + 1 if word_class else len(span_rules.CLASSES) + 1)
        tags[start:end] = first + 2
        tags[start], tags[end - 1] = first + 1, first + 3
        if end - start == 1:
            tags[start] = first
    for number in numbers:
        tags[number.start : number.end] = 4 * (len(span_rules.CLASSES) + 2)
    return tags


@dataclass(frozen=True)
class Reading:
    """What is known of a text before the models; ``codes`` are the folded text's code points, uint64 as ``tags``."""

    folded: str
    codes: np.ndarray
    tags: np.ndarray
    numbers: list[quantities.Quantity]
    clauses: list[tuple[int, int]]


def read(text: str) -> Reading:
    """The models' input, in fitting as in use."""
    folded = fold(text)
    codes = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    numbers = quantities.find(text)
    return Reading(folded, codes, _tags(len(text), _entities(folded), numbers), numbers, clauses(folded))


def find(text: str) -> list[Span]:
    """The spans of ``text`` in order; within a kind they do not overlap, across kinds they may.

    Offsets are those of ``text`` as it is. Linear in its length.
    """
    return find_all([text])[0]


def find_all(texts: Sequence[str]) -> list[list[Span]]:
    """The same for many texts, in less time than one by one."""
    found: list[list[Span]] = []
    for first in range(0, len(texts), _TEXTS_AT_A_TIME):
        found += _find_some([read(text) for text in texts[first : first + _TEXTS_AT_A_TIME]])
    return found


def _find_some(seen: Sequence[Reading]) -> list[list[Span]]:
    codes, tags = [r.codes for r in seen], [r.tags for r in seen]
    terms = tagger.terms(tagger.model(), codes, tags)
    said = clause_network.logits(clause_network.network(), codes, tags, [r.clauses for r in seen])
    return [_spans(*parts) for parts in zip(seen, terms, said, strict=True)]


def _is_name(seen: Reading, start: int, end: int) -> bool:
    """Words without a Chinese character are terms only where the tables have them: 转氨酶 is guessed, HALT is not."""
    return bool(_CHINESE.search(seen.folded, start, end)) or bool(seen.tags[start:end].all())


def _spans(seen: Reading, terms: Iterable[tuple[int, int]], logits: np.ndarray) -> list[Span]:
    found = [(start, end, "term") for start, end in terms if _is_name(seen, start, end)]
    found += [(start, end, "number") for q in seen.numbers for start, end in (q.parts or ((q.start, q.end),))]
    for clause, kind in np.argwhere(logits > 0):
        start, end = seen.clauses[clause]
        if _CHINESE.search(seen.folded, start, end):
            found.append((start, end, clause_network.CLAUSE_KINDS[kind]))
    trimmed = [Span(*_trimmed(seen.folded, start, end), kind) for start, end, kind in found]
    return sorted(
        (span for span in trimmed if span.start < span.end),
        key=lambda span: (span.start, -span.end, KINDS.index(span.kind)),
    )
