"""Which characters of a medical text are of which kind: what the training weights and the evaluation both read.

Guideline (also for annotating by hand; a span leaves out the punctuation around it, kinds may overlap):

- term: medical nouns with the words that name their form (慢性胃炎, 左膝疼痛, 头颅CT, 氨氯地平片): diseases, symptoms,
  examinations, indicators, pathogens, drugs and drug classes, treatments, anatomy in medical use. No departments,
  no everyday food, no 检查/治疗/药物 alone.
- number: a whole written quantity with comparator and unit, frequencies included.
- diagnosis: disease names stated or considered, with grade; judgement phrases alone (考虑, 提示, 不能排除,
  符合…诊断标准, 轻度升高, 超过正常范围, 在正常范围内). Not: a disease as a mere attribute (糖尿病患者, 预防中风).
- treatment: a drug or remedy with the dosing words and amounts that follow it; dosing without a drug; lifestyle
  measures whole, to the end of their clause; monitoring with its object (2周后复查血脂); seeing a doctor with the
  place (到心内科就诊); calling 120.
- empathy: the whole warm expression: reaction, interpretation, exploration, encouragement, good wishes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from precision_lora import knowledge, quantities, span_rules
from precision_lora.lexicon import longest_match_pattern
from precision_lora.numerals import fold

KINDS = ("term", "number", "diagnosis", "treatment", "empathy")

# Table category -> class letter in the shadow. Categories that are missing here are no terms by themselves.
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
_UNMARKED_CATEGORIES = {"department", "lifestyle", "habit", "context"}
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
_UNSHADOWED = frozenset(("热敷", "冷敷", "冰敷", "湿敷"))
# Units of what is taken rather than measured.
_TAKEN = re.compile(
    r"(?:mg|g|μg|ug|ml|iu|u|单位|片|粒|袋|支|滴|喷|揿|丸|包|瓶|贴|枚|万单位|毫克|克|微克|毫升)(?:/(?:kg|次|日|d))*"
)
_ENTITY = re.compile(f"[{span_rules.CLASSES}]")
_LONGEST_WARM = 40
_GAP = "[^，,。；;！!？?\n：:]{0,12}?"


@dataclass(frozen=True, order=True)
class Span:
    """Characters ``start`` to ``end`` (exclusive) of the text are of ``kind``, one of ``KINDS``."""

    start: int
    end: int
    kind: str


@cache
def _lexicon() -> dict[str, str]:
    """All known medical words, folded, and the class letter of each; "" for a term without class.

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
        if term.category not in _UNMARKED_CATEGORIES or term.category == "department":
            letter = _CLASS_OF_CATEGORY.get(term.category, "")
            classes |= {name: "" if name in _UNSHADOWED else letter for name in names}
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


@cache
def _phrases(kind: str) -> re.Pattern[str]:
    """One pattern for all phrases of a kind; those with a gap come after the literal ones."""
    if kind == "empathy":
        written = [p.phrase for p in knowledge.empathy()]
    else:
        written = [p.phrase for p in knowledge.phrases() if p.kind == kind]
    folded = [fold(phrase) for phrase in written]
    literal = longest_match_pattern(phrase for phrase in folded if "…" not in phrase)
    gapped = sorted((p for p in folded if "…" in p), key=len, reverse=True)
    return re.compile("|".join([*(_GAP.join(map(re.escape, p.split("…"))) for p in gapped), literal]))


_DRUG_AFTER = re.compile(span_rules.DRUG_AFTER)
_WITH_FORM = {
    span_rules.SYMPTOM: (re.compile(span_rules.DISEASE_BEFORE + "$"), None),
    span_rules.DISEASE: (re.compile(span_rules.DISEASE_BEFORE + "$"), None),
    span_rules.DRUG: (re.compile(span_rules.DRUG_BEFORE + "$"), _DRUG_AFTER),
}


def _is_latin(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _entities(text: str) -> list[tuple[int, int, str]]:
    """(start, end, class letter or "") of the medical words of folded ``text``, compounds and forms included."""
    classes = _lexicon()
    found: list[tuple[int, int, str]] = []
    for match in span_rules.COMPOUND.finditer(text):
        name = match.lastgroup
        letter = {"symptom": span_rules.SYMPTOM, "test": span_rules.TEST}.get(name or "", span_rules.DISEASE)
        found.append((*match.span(), letter))
    for start, end in _longest_words(text):
        if _is_latin(text[start]) and start and _is_latin(text[start - 1]):
            continue
        if _is_latin(text[end - 1]) and end < len(text) and _is_latin(text[end]):
            continue
        letter = classes[text[start:end]]
        if letter == _MASK:
            continue
        before, after = _WITH_FORM.get(letter, (None, None))
        if before and (form := before.search(text, max(0, start - 12), start)):
            start = form.start()
        if after and (form := after.match(text, end)):
            end = form.end()
        found.append((start, end, letter))
    known = {end for _, end, letter in found if letter == span_rules.DRUG}
    starts = {start for start, _, letter in found if letter == span_rules.DRUG}
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


def _shadow(text: str, entities: Iterable[tuple[int, int, str]], numbers: list[quantities.Quantity]) -> str:
    """``text`` with entities and numbers replaced by class letters; longer entities win, numbers over all."""
    shadow = list(text)
    for start, end, letter in sorted(entities, key=lambda e: e[1] - e[0]):
        if letter:
            shadow[start:end] = letter * (end - start)
    for number in numbers:
        if number.form == "frequency":
            letter = span_rules.FREQUENCY
        elif number.unit is not None and _TAKEN.fullmatch(fold(number.unit)):
            letter = span_rules.AMOUNT
        else:
            letter = span_rules.NUMBER
        if letter == span_rules.AMOUNT and number.start and shadow[number.start - 1] == span_rules.TEST:
            letter = span_rules.NUMBER  # 尿蛋白定量3.8g is measured, not taken
        shadow[number.start : number.end] = letter * (number.end - number.start)
    return "".join(shadow)


def _rule_spans(pattern: re.Pattern[str], text: str, groups: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        group = next((g for g in groups if match[g] is not None), None)
        yield match.span(group) if group else match.span()


def _warm(text: str) -> Iterator[tuple[int, int]]:
    """Empathy spans, each widened to the soft words around it in its clause."""
    hits = [m.span() for m in span_rules.EMPATHY.finditer(text)] + [
        m.span() for m in _phrases("empathy").finditer(text)
    ]
    clause_ends = [m.end() for m in span_rules.CLAUSE_END.finditer(text)]
    clause = 0
    for start, end in sorted(hits):
        while clause < len(clause_ends) and clause_ends[clause] <= start:
            clause += 1
        begin = clause_ends[clause - 1] if clause else 0
        if (
            0 < start - begin <= 14
            and (soft := span_rules.EMPATHY_LEFT.search(text, begin, start))
            and soft.start() == begin
        ):
            start = begin
        if tail := span_rules.EMPATHY_RIGHT.match(text, end):
            end = tail.end()
        yield start, end


def _clauses(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, what ends it) of every clause."""
    start = 0
    for match in span_rules.CLAUSE_END.finditer(text):
        if match.start() > start:
            yield start, match.start(), match[0]
        start = match.end()
    if start < len(text):
        yield start, len(text), ""


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping spans joined, in order."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        elif start < end:
            joined.append((start, end))
    return joined


def _apart_from(spans: list[tuple[int, int]], others: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of ``spans`` that touch none of ``others``; both in order."""
    apart = []
    index = 0
    for start, end in spans:
        while index < len(others) and others[index][1] <= start:
            index += 1
        if index == len(others) or others[index][0] >= end:
            apart.append((start, end))
    return apart


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start] in " ，,、。；;：:\n(（)）":
        start += 1
    while start < end and text[end - 1] in " ，,、。；;：:\n(（":
        end -= 1
    return start, end


def _clause_spans(shadow: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(warm clauses, clauses of advice): what no list and no local rule foresees."""
    warm: list[tuple[int, int]] = []
    advice: list[tuple[int, int]] = []
    for start, end, mark in _clauses(shadow):
        clause = shadow[start:end]
        medical = _ENTITY.search(clause) is not None
        asks = mark in ("？", "?")
        explores = span_rules.EXPLORING_ANYTHING if medical else span_rules.EXPLORING_CLAUSE
        if (
            (asks and explores.search(clause))
            or span_rules.WARM_ANYTHING.search(clause)
            or (not medical and end - start <= _LONGEST_WARM and span_rules.WARM_CLAUSE.search(clause))
        ):
            warm.append((start, end))
        elif (hit := span_rules.ADVICE_CLAUSE.search(clause)) and not span_rules.NO_ADVICE.search(clause):
            begin = hit.start()
            if begin <= 14 and not _ENTITY.search(clause, 0, begin) and (lead := span_rules.ADVICE_LEAD.match(clause)):
                begin = min(lead.end(), begin)
            advice.append((start + begin, end))
        elif (hit := span_rules.BIDDING_CLAUSE.search(clause)) and not span_rules.NO_BIDDING.search(clause):
            advice.append((start + hit.start("act"), end))
    return warm, advice


def find(text: str) -> list[Span]:
    """The spans of ``text`` in order; within a kind they do not overlap, across kinds they may.

    Offsets are those of ``text`` as it is. Linear in its length.
    """
    if not text:
        return []
    folded = _ENTITY.sub(" ", fold(text))
    numbers = quantities.find(text)
    entities = _entities(folded)
    shadow = _shadow(folded, entities, numbers)
    warm_clauses, advice = _clause_spans(shadow)
    warm = _merged(_trimmed(folded, *span) for span in (*_warm(folded), *warm_clauses))
    # 担心是正常的 comforts; it judges nothing.
    judgements: list[tuple[int, int]] = []
    diseases: list[tuple[int, int]] = []
    for start, end in _rule_spans(span_rules.DIAGNOSIS, shadow, span_rules.DIAGNOSIS_GROUPS):
        (diseases if span_rules.DISEASE in shadow[start:end] else judgements).append((start, end))
    judgements = _merged([*judgements, *(m.span() for m in _phrases("diagnosis").finditer(folded))])
    measures: list[tuple[int, int]] = []
    bare: list[tuple[int, int]] = []
    for start, end in _rule_spans(span_rules.TREATMENT, shadow, span_rules.TREATMENT_GROUPS):
        (measures if _ENTITY.search(shadow, start, end) else bare).append((start, end))
    by_kind: dict[str, list[tuple[int, int]]] = {
        "term": [(s, e) for s, e, letter in entities if letter != span_rules.PLACE],
        "number": [part for q in numbers for part in (q.parts or ((q.start, q.end),))],
        "diagnosis": [*diseases, *_apart_from(judgements, warm)],
        "treatment": [
            *measures,
            *_apart_from(bare, warm),
            *(m.span() for m in _phrases("treatment").finditer(folded)),
            *_apart_from(advice, warm),
        ],
        "empathy": warm,
    }
    result = []
    for kind, spans in by_kind.items():
        for start, end in _merged(_trimmed(folded, *span) for span in spans):
            result.append(Span(start, end, kind))
    return sorted(result, key=lambda span: (span.start, -span.end, KINDS.index(span.kind)))
