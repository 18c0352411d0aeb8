"""Abstract consultations: who asks what about which value, in which mood. Renderers turn a case into text.

A case holds no sentence, only choices, so that the exact and the vague renderer can answer the same question.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from data_mlx import figures
from data_mlx.readings import BY_QUANTITY, READINGS, Band, Reading
from data_mlx.vignettes import CRISES, EMERGENCIES
from precision_lora import knowledge
from precision_lora.knowledge import Condition

FAMILIES = ("血压咨询", "血糖检查", "药物咨询", "症状分析", "情绪支持")
NARRATIVES = Path(__file__).with_name("narratives.jsonl")

# The guide's own examples and other evaluation values: never a case.
HELD_OUT_VALUES = {("blood_pressure", (140.0, 90.0)), ("fasting_glucose", (7.2,))}


@dataclass(frozen=True)
class Narrative:
    """How people tell a condition and how a doctor explains it; the medical table is ``conditions.jsonl``."""

    id: str
    sex: str
    age: tuple[int, int]
    complaints: tuple[str, ...]
    explains: tuple[str, ...]
    beliefs: tuple[tuple[str, str], ...]
    outlook: tuple[str, ...]
    alarms: tuple[str, ...]
    worries: tuple[str, ...]


@dataclass(frozen=True)
class Asker:
    """The patient, and who writes for them: ``relation`` is 我, 妈妈, 孩子 …; ``group`` a special group or empty."""

    relation: str
    age: int
    sex: str
    group: str = ""


@dataclass(frozen=True)
class Case:
    """One consultation before any word of it is chosen."""

    family: str
    frame: str
    condition: str
    asker: Asker
    feeling: str
    seed: int
    quantity: str = ""
    values: tuple[float, ...] = ()
    unit: str = ""
    band: str = ""
    drug: str = ""
    other: str = ""
    detail: str = ""
    duration: str = ""
    turns: tuple[str, ...] = ()

    @property
    def value_key(self) -> str:
        """What makes two questions of one frame the same question: value, drug or complaint."""
        numbers = "/".join(f"{v:g}" for v in self.values)
        return "|".join((self.quantity, numbers, self.unit, self.drug, self.other, self.detail, self.duration))

    @property
    def group(self) -> tuple[str, str, str]:
        """Rows of one group never straddle two splits."""
        return (self.condition, self.frame, self.value_key)


@cache
def conditions() -> dict[str, Condition]:
    return {condition.id: condition for condition in knowledge.conditions()}


@cache
def narratives() -> dict[str, Narrative]:
    rows = [json.loads(line) for line in NARRATIVES.read_text(encoding="utf-8").splitlines()]
    return {
        row["id"]: Narrative(
            row["id"],
            row["sex"],
            tuple(row["age"]),
            tuple(row["complaints"]),
            tuple(row["explains"]),
            tuple((b, t) for b, t in row["beliefs"]),
            tuple(row["outlook"]),
            tuple(row["alarms"]),
            tuple(row["worries"]),
        )
        for row in rows
    }


# Everyday conditions come more often, as they do in a consultation room.
COMMON = {
    "hypertension": 6,
    "type2_diabetes": 5,
    "common_cold": 2,
    "child_fever": 3,
    "insomnia": 3,
    "anxiety": 3,
    "depression": 3,
    "gastritis": 2,
    "coronary_disease": 2,
    "gestational_hypertension": 2,
    "ckd": 2,
    "gout": 2,
    "dyslipidemia": 2,
    "prediabetes": 2,
    "stroke": 2,
    "caregiver": 2,
    "postpartum_depression": 2,
}


def _weighted(rng: Random, ids: list[str]) -> str:
    return rng.choices(ids, [COMMON.get(i, 1) for i in ids])[0]


def sample_asker(rng: Random, narrative: Narrative, sex: str = "any", group: str = "") -> Asker:
    """Somebody of fitting age and sex; children are asked for by a parent, the old often by their children."""
    low, high = narrative.age
    age = rng.randint(low, high)
    if narrative.id == "hypertension" and rng.random() < 0.25:
        age = rng.randint(66, 90)
    if sex == "any":
        sex = narrative.sex if narrative.sex != "any" else rng.choice(("male", "female"))
    if group == "孕妇":
        return Asker("我" if rng.random() < 0.75 else "老婆", rng.randint(22, 41), "female", group)
    if age < 13:
        return Asker("儿子" if sex == "male" else "女儿", age, sex, group)
    if age < 18:
        relation = rng.choice(("我", "儿子" if sex == "male" else "女儿"))
    elif age >= 72:
        relation = rng.choice(("我", "爷爷" if sex == "male" else "奶奶", "爸爸" if sex == "male" else "妈妈"))
    elif age >= 50:
        relation = rng.choice(("我", "我", "爸爸" if sex == "male" else "妈妈", "老公" if sex == "male" else "老婆"))
    else:
        relation = rng.choice(("我", "我", "我", "老公" if sex == "male" else "老婆"))
    if narrative.id in ("caregiver", "postpartum_depression") and relation != "我" and rng.random() < 0.6:
        relation = "我"
    return Asker(relation, age, sex, group)


def _limit(limit: tuple[str, str, float]) -> float:
    fact = figures.fact(limit[0])
    bound = fact.low if limit[1] == "low" else fact.high
    assert isinstance(bound, float)
    return bound * limit[2]


def sample_band_value(rng: Random, reading: Reading, band: Band) -> float:
    """A value inside the band, written with the quantity's usual decimals."""
    low, high = sorted((_limit(band.low), _limit(band.high)))
    places = figures.decimals(reading.quantity)
    if reading.quantity == "tsh":
        places = 2
    for _ in range(50):
        value = round(rng.uniform(low, high), places)
        if low - 1e-9 <= value <= high + 1e-9:
            return value
    return round((low + high) / 2, places)


PRESSURE_BANDS = ("low", "normal", "high_normal", "grade1", "grade2", "grade3")


def _pair(fact_id: str, side: str) -> tuple[float, float]:
    fact = figures.fact(fact_id)
    bound = fact.low if side == "low" else fact.high
    assert isinstance(bound, tuple)
    return bound


def pressure_band(systolic: float, diastolic: float) -> str:
    """The grade of a pair: the higher of its two parts decides, as the guideline says."""
    for name, fact_id in (
        ("grade3", "htn_grade3"),
        ("grade2", "htn_grade2"),
        ("grade1", "htn_grade1"),
        ("high_normal", "bp_high_normal"),
    ):
        low = _pair(fact_id, "low")
        if systolic >= low[0] or diastolic >= low[1]:
            return name
    low = _pair("bp_normal", "low")
    return "low" if systolic < low[0] or diastolic < low[1] else "normal"


def sample_pressure(rng: Random, band: str) -> tuple[float, float]:
    """A believable pair in the band: pulse pressure between 28 and 75."""
    spans = {
        "low": (76, 96, 46, 60),
        "normal": (96, 119, 61, 79),
        "high_normal": (120, 139, 72, 89),
        "grade1": (138, 159, 80, 99),
        "grade2": (158, 179, 90, 109),
        "grade3": (176, 206, 98, 122),
    }
    low_s, high_s, low_d, high_d = spans[band]
    while True:
        s, d = float(rng.randint(low_s, high_s)), float(rng.randint(low_d, high_d))
        if 28 <= s - d <= 75 and pressure_band(s, d) == band and ("blood_pressure", (s, d)) not in HELD_OUT_VALUES:
            return s, d


def fit_asker(rng: Random, asker: Asker, complaint: str, narrative: Narrative) -> Asker:
    """The asker whom the words of the complaint allow: first person, a child, an old person, a wife's remark."""
    adult = max(18, narrative.age[0])
    if any(word in complaint for word in ("孩子", "宝宝", "娃")) and narrative.id not in (
        "postpartum_depression",
        "caregiver",
    ):
        return (
            asker
            if asker.age < 13
            else Asker(rng.choice(("儿子", "女儿")), rng.randint(max(1, narrative.age[0]), 9), "any")
        )
    if "老人" in complaint:
        return Asker(rng.choice(("爷爷", "奶奶", "爸爸", "妈妈")), rng.randint(68, 85), "any")
    if "老婆" in complaint:
        return Asker("我", rng.randint(max(28, adult), 65), "male")
    if "我" in complaint or "姨妈" in complaint or narrative.id == "caregiver":
        sex = asker.sex if narrative.sex == "any" else narrative.sex
        return Asker("我", max(asker.age, adult), sex, asker.group)
    return asker


def _feeling(rng: Random, calm: float = 0.25) -> str:
    if rng.random() < calm:
        return "平静"
    return rng.choice(("担心", "担心", "担心", "害怕", "焦虑", "困惑", "困惑", "烦躁", "疲惫"))


def _follow_topics(rng: Random, family: str) -> tuple[str, ...]:
    """Topics of later turns: about a quarter of the rows have any."""
    if rng.random() > 0.24:
        return ()
    topics = ["lifestyle", "belief", "exam", "follow_up", "worry", "alarm"]
    if family != "药物咨询":
        topics.append("drug")
    return tuple(rng.sample(topics, rng.choices((1, 2, 3), (6, 3, 1))[0]))


def sample_pressure_case(rng: Random, seed: int) -> Case:
    """Blood pressure, heart rate or oxygen."""
    roll = rng.random()
    if roll < 0.17:
        reading = rng.choices(
            [r for r in READINGS if r.family == "bp"], [r.weight for r in READINGS if r.family == "bp"]
        )[0]
        return _reading_case(rng, seed, reading, "血压咨询")
    frame, condition, group = "bp_reading", "hypertension", ""
    band = rng.choices(PRESSURE_BANDS, (8, 12, 17, 34, 20, 9))[0]
    if roll < 0.25:
        condition, group = "gestational_hypertension", "孕妇"
        band = rng.choice(("normal", "high_normal", "grade1", "grade1", "grade2"))
    elif roll < 0.33:
        group, frame = rng.choice(("糖尿病", "肾病")), "bp_comorbid"
        band = rng.choice(("high_normal", "grade1", "grade1", "grade2"))
    elif roll < 0.40:
        frame, band = "bp_home", "high_normal"
    elif roll < 0.47:
        frame, band = "bp_ask_back", ""
    elif roll < 0.52:
        frame = "bp_kpa"
        band = rng.choice(("normal", "grade1", "grade2"))
    elif roll < 0.59:
        frame = "bp_treated"
        band = rng.choice(("normal", "high_normal", "grade1", "grade1", "grade2"))
    elif roll < 0.63:
        frame, band = "bp_belief", ""
    if condition == "hypertension":
        condition = {"low": "hypotension", "normal": "high_normal_bp", "high_normal": "high_normal_bp"}.get(
            band, condition
        )
        if frame in ("bp_treated", "bp_comorbid", "bp_belief", "bp_ask_back"):
            condition = "hypertension"
    narrative = narratives()[condition]
    asker = sample_asker(rng, narrative, group=group)
    values: tuple[float, ...] = ()
    if band:
        if frame == "bp_home":
            home = _pair("htn_home", "low")
            office = _pair("htn_office", "low")
            values = (
                float(rng.randint(int(home[0]), int(office[0]) - 1)),
                float(rng.randint(int(home[1]), int(office[1]) - 1)),
            )
        else:
            values = sample_pressure(rng, band)
    detail = ""
    if frame == "bp_belief":
        detail = str(rng.randrange(len(narrative.beliefs)))
    if frame == "bp_ask_back":
        detail = str(rng.randrange(10_000))
    return Case(
        "血压咨询",
        frame,
        condition,
        asker,
        _feeling(rng),
        seed,
        "blood_pressure",
        values,
        "kPa" if frame == "bp_kpa" else "mmHg",
        band,
        detail=detail,
        turns=("tell_pressure",) if frame == "bp_ask_back" else _follow_topics(rng, "血压咨询"),
    )


def _reading_case(rng: Random, seed: int, reading: Reading, family: str) -> Case:
    while True:
        band = rng.choices(reading.bands, [1 if b.name == "normal" else 3 for b in reading.bands])[0]
        value = sample_band_value(rng, reading, band)
        if (reading.quantity, (value,)) not in HELD_OUT_VALUES:
            break
    narrative = narratives()[band.condition]
    asker = sample_asker(rng, narrative, band.sex)
    if band.condition == "gestational_diabetes":
        asker = sample_asker(rng, narrative, group="孕妇")
    elif asker.age < 18 and band.condition != "child_fever":
        asker = Asker("我", rng.randint(20, 60), asker.sex)
    elif asker.age < 1:
        asker = Asker(asker.relation, rng.randint(1, 6), asker.sex)
    reference = figures.fact(band.reference)
    if reference.age is not None and not reference.age[0] <= asker.age <= reference.age[1]:
        asker = Asker("我", rng.randint(max(20, int(reference.age[0])), min(59, int(reference.age[1]))), asker.sex)
    frame = "treated" if band.name == "treated" else "reading"
    unit = ""
    if reading.other_unit in ("mg/dL",) and rng.random() < 0.2:
        frame, unit = "reading_unit", reading.other_unit
    return Case(
        family,
        frame,
        band.condition,
        asker,
        _feeling(rng),
        seed,
        reading.quantity,
        (value,),
        unit,
        f"{reading.bands.index(band)}",
        turns=_follow_topics(rng, family),
    )


def sample_lab_case(rng: Random, seed: int) -> Case:
    """Glucose and other laboratory values."""
    labs = [r for r in READINGS if r.family == "lab"]
    roll = rng.random()
    if roll < 0.08:
        condition = rng.choice(("type2_diabetes", "prediabetes"))
        asker = sample_asker(rng, narratives()[condition])
        return Case(
            "血糖检查",
            "glucose_ask_back",
            condition,
            asker,
            _feeling(rng),
            seed,
            "fasting_glucose",
            (),
            "",
            detail=str(rng.randrange(10_000)),
            turns=("tell_glucose",),
        )
    if roll < 0.15:
        condition = rng.choice(
            ("type2_diabetes", "dyslipidemia", "hyperuricemia", "ckd", "fatty_liver", "anemia", "hepatitis_b")
        )
        narrative = narratives()[condition]
        return Case(
            "血糖检查",
            "belief",
            condition,
            sample_asker(rng, narrative),
            _feeling(rng),
            seed,
            detail=str(rng.randrange(len(narrative.beliefs))),
            turns=_follow_topics(rng, "血糖检查"),
        )
    return _reading_case(rng, seed, rng.choices(labs, [r.weight for r in labs])[0], "血糖检查")


def dosed(condition: Condition) -> list[str]:
    """The condition's drugs that the table has with a dose."""
    return [
        n
        for n in condition.drugs
        if (d := figures.drug(n)) is not None
        and d.dose.unit is not None
        and (d.dose.low is not None or d.dose.start is not None)
    ]


# Groups as people name themselves -> words that mark them in the drug table.
GROUPS = {
    "孕妇": ("孕妇", "妊娠"),
    "哺乳期": ("哺乳",),
    "肾功能不全": ("肾功能", "肾脏", "eGFR"),
    "肝功能不全": ("肝功能", "肝病"),
    "儿童": ("儿童", "岁"),
    "哮喘": ("哮喘",),
    "消化性溃疡": ("溃疡", "消化道出血"),
}
# Groups that few drugs name come up oftener where one does.
RARE_GROUPS = {"肾功能不全": 6, "消化性溃疡": 6, "哮喘": 6, "肝功能不全": 2}
DURATIONS = (
    "有几天了",
    "四五天了",
    "小半个月了",
    "快一个星期了",
    "半个月了",
    "一个多月了",
    "断断续续好几个月",
    "有大半年了",
    "一两年了",
)
ACUTE_DURATIONS = ("刚刚", "今天早上开始", "从昨晚开始", "两天了", "三天了", "四五天了", "快一个礼拜了")
ACUTE = {
    "common_cold",
    "influenza",
    "child_fever",
    "pneumonia",
    "pharyngitis",
    "gastroenteritis",
    "appendicitis",
    "uti",
    "kidney_stone",
    "hfmd",
    "otitis_media",
    "conjunctivitis",
    "shingles",
    "gout",
    "scald",
    "hypoglycemia",
    "stroke",
}


def sample_drug_case(rng: Random, seed: int) -> Case:
    """How to take a medicine, what it goes with, who must not have it."""
    ids = [i for i, c in conditions().items() if dosed(c)]
    condition = conditions()[_weighted(rng, ids)]
    name = rng.choice(dosed(condition))
    drug = figures.drug(name)
    assert drug is not None
    narrative = narratives()[condition.id]
    frames = ["usage"] * 4 + ["missed", "stop", "stop", "side_effect", "why", "double", "fit"]
    if drug.interactions:
        frames += ["with_other"] * 3
    if drug.otc:
        frames = [f for f in frames if f != "stop"]
    groups = [g for g, marks in GROUPS.items() if any(m in c.group for c in drug.contraindications for m in marks)]
    if narrative.age[0] >= 13:
        groups = [g for g in groups if g != "儿童"]
    if narrative.age[1] < 18:
        groups = [g for g in groups if g == "儿童"]
    if groups:
        frames += ["group"] * (6 if RARE_GROUPS.keys() & set(groups) else 3)
    frame = rng.choice(frames)
    other, group = "", ""
    if frame == "with_other":
        other = rng.choice(drug.interactions).other
    if frame == "group":
        group = rng.choices(groups, [RARE_GROUPS.get(g, 1) for g in groups])[0]
    asker = sample_asker(rng, narrative, group=group)
    if group == "儿童":
        asker = Asker(rng.choice(("儿子", "女儿")), rng.randint(1, 11), "any", group)
    elif group == "哺乳期":
        asker = Asker("我", rng.randint(23, 40), "female", group)
    elif asker.age < 14 and not drug.otc:
        asker = Asker("我", rng.randint(20, 65), asker.sex, group)
    return Case(
        "药物咨询",
        frame,
        condition.id,
        asker,
        _feeling(rng, 0.4),
        seed,
        drug=name,
        other=other,
        detail=group,
        turns=_follow_topics(rng, "药物咨询"),
    )


def sample_symptom_case(rng: Random, seed: int) -> Case:
    """Complaints: what it may be, how sure, what to do; emergencies among them."""
    roll = rng.random()
    if roll < 0.16:
        key = rng.choice(sorted(EMERGENCIES))
        vignette = EMERGENCIES[key]
        which = rng.randrange(len(vignette.complaints))
        asker = Asker(rng.choice(vignette.relations), rng.randint(*vignette.age), vignette.sex)
        return Case(
            "症状分析",
            "emergency",
            key,
            asker,
            rng.choice(("害怕", "担心", "焦虑", "平静")),
            seed,
            detail=str(which),
            duration=str(rng.randrange(40)),
        )
    if roll < 0.23:
        return _reading_case(rng, seed, BY_QUANTITY["body_temperature"], "症状分析")
    ids = [
        i
        for i in conditions()
        if i
        not in ("caregiver", "high_normal_bp", "appendicitis", "stroke", "hypoglycemia", "gestational_hypertension")
    ]
    condition = _weighted(rng, ids)
    narrative = narratives()[condition]
    which = rng.randrange(len(narrative.complaints))
    duration = rng.choice(ACUTE_DURATIONS if condition in ACUTE else DURATIONS)
    frame = "symptom" if roll < 0.78 else ("symptom_ask_back" if roll < 0.9 else "symptom_belief")
    detail = str(which)
    if frame == "symptom_belief":
        detail += f"+{rng.randrange(len(narrative.beliefs))}"
    turns = ("tell_symptom",) if frame == "symptom_ask_back" else _follow_topics(rng, "症状分析")
    asker = fit_asker(rng, sample_asker(rng, narrative), narrative.complaints[which], narrative)
    return Case(
        "症状分析",
        frame,
        condition,
        asker,
        _feeling(rng),
        seed,
        detail=detail,
        duration=duration,
        turns=turns,
    )


def sample_emotion_case(rng: Random, seed: int) -> Case:
    """Newly diagnosed, long burdened, waiting, ashamed; and crises."""
    roll = rng.random()
    feeling = rng.choice(("担心", "担心", "害怕", "焦虑", "难过", "疲惫", "自责", "烦躁", "羞耻"))
    if roll < 0.08:
        key = rng.choice(sorted(CRISES))
        vignette = CRISES[key]
        asker = Asker(rng.choice(vignette.relations), rng.randint(*vignette.age), vignette.sex)
        return Case(
            "情绪支持",
            "crisis",
            key,
            asker,
            rng.choice(("难过", "疲惫", "害怕")),
            seed,
            detail=str(rng.randrange(len(vignette.complaints))),
            duration=str(rng.randrange(60)),
        )
    if roll < 0.12:
        return _reading_case(rng, seed, BY_QUANTITY["phq9"], "情绪支持")
    mental = ("anxiety", "panic", "depression", "insomnia", "postpartum_depression", "caregiver")
    if roll < 0.30:
        condition, frame = rng.choice(mental), "mood"
    else:
        acute = ACUTE - {"gout", "kidney_stone", "shingles", "pneumonia", "stroke"}
        acute |= {"bronchitis", "hypotension", "high_normal_bp", "caregiver"}
        condition = _weighted(rng, [i for i in conditions() if i not in acute])
        frame = rng.choices(("diagnosed", "burden", "fear", "guilt"), (6, 2, 2, 1))[0]
    narrative = narratives()[condition]
    asker = sample_asker(rng, narrative)
    if frame == "mood" and asker.relation != "我" and rng.random() < 0.7:
        asker = Asker("我", max(asker.age, 16), asker.sex)
    detail = str(rng.randrange(len(narrative.worries)))
    if frame == "mood":
        which = rng.randrange(len(narrative.complaints))
        detail = str(which)
        asker = fit_asker(rng, asker, narrative.complaints[which], narrative)
        feeling = rng.choice(("焦虑", "难过", "疲惫", "害怕", "羞耻"))
    if frame == "guilt":
        feeling = "自责"
    return Case(
        "情绪支持",
        frame,
        condition,
        asker,
        feeling,
        seed,
        detail=detail,
        duration=rng.choice(DURATIONS),
        turns=_follow_topics(rng, "情绪支持"),
    )


SAMPLERS = {
    "血压咨询": sample_pressure_case,
    "血糖检查": sample_lab_case,
    "药物咨询": sample_drug_case,
    "症状分析": sample_symptom_case,
    "情绪支持": sample_emotion_case,
}


def sample(family: str, seed: int) -> Case:
    """The case number ``seed`` of a family: the same arguments give the same case."""
    return SAMPLERS[family](Random(f"{family}/{seed}"), seed)


def band_of(case: Case) -> Band:
    """The band that a laboratory case was drawn from."""
    return BY_QUANTITY[case.quantity].bands[int(case.band)]
