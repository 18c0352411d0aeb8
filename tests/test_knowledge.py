"""The knowledge tables: their loader's complaints, and what the shipped tables must hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from precision_lora import knowledge
from precision_lora.numerals import fold

TABLES = {
    "terms": (knowledge.terms, 1250),
    "drugs": (knowledge.drugs, 200),
    "facts": (knowledge.facts, 200),
    "quantities": (knowledge.quantities_table, 60),
    "units": (knowledge.units, 30),
    "red_flags": (knowledge.red_flags, 40),
    "empathy": (knowledge.empathy, 200),
    "feelings": (knowledge.feelings, 10),
    "conditions": (knowledge.conditions, 60),
}

TERM = {"term": "血压", "tier": "professional", "category": "indicator", "aliases": [], "source": "测试"}
FACT = {
    "id": "a", "quantity": "q", "meaning": "normal", "label": "甲", "low": 1, "high": 2, "unit": "g", "source": "测试",
}  # fmt: skip
DRUG = {
    "name": "甲药", "aliases": [], "class": "乙类", "route": "口服", "indications": ["丙"],
    "dose": {"low": 1, "high": 2, "start": None, "unit": "mg", "frequency": ["每日一次"]},
    "max_daily": None, "otc": False, "contraindications": [{"group": "孕妇", "strength": "禁用"}],
    "interactions": [{"with": "酒", "effect": "头晕"}], "source": "测试",
}  # fmt: skip


def _read(tmp_path: Path, entry_type: type, *lines: str) -> tuple:
    path = tmp_path / "table.jsonl"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return knowledge.read_table(path, entry_type)


def _json(entry: dict, **changes: object) -> str:
    return json.dumps(entry | changes, ensure_ascii=False)


@pytest.mark.parametrize("name", TABLES)
def test_shipped_tables_load_and_are_large_enough(name: str) -> None:
    load, least = TABLES[name]
    entries = load()
    assert len(entries) >= least
    assert load() is entries  # cached
    assert all(len(entry.source) >= 2 for entry in entries)


def test_every_shipped_line_is_one_compact_object() -> None:
    for path in knowledge.FOLDER.glob("*.jsonl"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert isinstance(json.loads(line), dict), f"{path.name}:{number}"


def test_a_table_keeps_its_types(tmp_path: Path) -> None:
    (drug,) = _read(tmp_path, knowledge.Drug, _json(DRUG))
    assert drug.drug_class == "乙类"
    assert drug.dose == knowledge.Dose(1.0, 2.0, None, "mg", ("每日一次",))
    assert drug.interactions == (knowledge.Interaction("酒", "头晕"),)
    (fact,) = _read(tmp_path, knowledge.Fact, _json(FACT, low=[140, 90], high=None))
    assert fact.low == (140.0, 90.0) and fact.high is None
    assert fact.sex == "any" and fact.age is None and fact.population == "普通" and fact.alternatives == ()


@pytest.mark.parametrize(
    ("entry_type", "line", "reason"),
    [
        (knowledge.Term, "{", "table.jsonl:1"),
        (knowledge.Term, "[]", "an object is needed"),
        (knowledge.Term, _json(TERM, tier="top"), "tier"),
        (knowledge.Term, _json(TERM, colour="red"), "unknown key colour"),
        (knowledge.Term, json.dumps({"term": "血压"}), "missing key tier, category, aliases, source"),
        (knowledge.Term, _json(TERM, source=""), "source"),
        (knowledge.Term, _json(TERM, term=" 血压"), "blanks"),
        (knowledge.Term, _json(TERM, aliases="血压值"), "aliases: a list is needed"),
        (knowledge.Term, _json(TERM, aliases=[1]), "aliases[0]"),
        (knowledge.Fact, _json(FACT, low=3), "low 3.0 is above high 2.0"),
        (knowledge.Fact, _json(FACT, low=[140, 95], high=[150, 90]), "above high"),
        (knowledge.Fact, _json(FACT, low=None, high=None), "both null"),
        (knowledge.Fact, _json(FACT, low=True), "low"),
        (knowledge.Fact, _json(FACT, alternatives=[{"low": 2, "high": 1, "source": "s"}]), "alternative"),
        (knowledge.Drug, _json(DRUG, dose=DRUG["dose"] | {"low": 3}), "dose low"),  # type: ignore[operator]
        (knowledge.Drug, _json(DRUG, dose=DRUG["dose"] | {"unit": None}), "needs its unit"),  # type: ignore[operator]
        (knowledge.Drug, _json(DRUG, otc="no"), "otc"),
        (knowledge.Drug, _json(DRUG, contraindications=[{"group": "孕妇", "strength": "禁"}]), "strength"),
    ],
)
def test_a_bad_entry_is_named_with_file_and_line(tmp_path: Path, entry_type: type, line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^table\.jsonl:1: ") as error:
        _read(tmp_path, entry_type, line)
    assert reason in str(error.value)


def test_the_second_of_two_equal_keys_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"table\.jsonl:2: term '血压' is already on line 1"):
        _read(tmp_path, knowledge.Term, _json(TERM), _json(TERM, tier="high"))


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        _read(tmp_path, knowledge.Term)


def test_the_digest_follows_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "FOLDER", tmp_path)
    digests = set()
    for content in (b"a", b"b", b""):
        (tmp_path / "terms.jsonl").write_bytes(content)
        digests.add(knowledge.tables_digest.__wrapped__())
    (tmp_path / "terms.jsonl").rename(tmp_path / "drugs.jsonl")
    digests.add(knowledge.tables_digest.__wrapped__())
    assert len(digests) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


def test_terms_have_no_name_twice_and_follow_the_tiers() -> None:
    seen: dict[str, str] = {}
    for term in knowledge.terms():
        for name in (term.term, *term.aliases):
            assert fold(name) not in seen, f"{name} in {term.term} and {seen.get(fold(name))}"
            seen[fold(name)] = term.term
        if term.category in ("disease", "examination", "treatment", "procedure", "drug_class"):
            assert term.tier == "high", term.term
        elif term.category == "indicator":
            assert term.tier == "professional", term.term
        else:
            assert term.tier == "middle", term.term
    tiers = {tier: sum(t.tier == tier for t in knowledge.terms()) for tier in ("high", "middle", "professional")}
    assert tiers["high"] >= 700 and tiers["middle"] >= 400 and tiers["professional"] >= 100
    assert {"血压", "血糖", "肝功能", "空腹血糖", "高血压", "心电图"} <= {name for name in seen}


def test_empathy_covers_three_mechanisms_and_known_feelings() -> None:
    phrases = knowledge.empathy()
    feelings = {feeling.feeling for feeling in knowledge.feelings()}
    for mechanism in ("reaction", "interpretation", "exploration"):
        for strength in ("weak", "strong"):
            assert sum(p.mechanism == mechanism and p.strength == strength for p in phrases) >= 15
    for phrase in phrases:
        assert phrase.feelings and set(phrase.feelings) <= feelings, phrase.phrase
        assert not phrase.phrase.startswith("…") and not phrase.phrase.endswith("…")
    assert {f for p in phrases for f in p.feelings} >= {"担心", "害怕", "焦虑", "难过", "绝望", "自责", "孤独"}


def test_feelings_share_no_word() -> None:
    owner: dict[str, str] = {}
    for feeling in knowledge.feelings():
        for word in feeling.words:
            assert word not in owner, f"{word}: {feeling.feeling} and {owner.get(word)}"
            owner[word] = feeling.feeling


@pytest.mark.parametrize(
    ("question", "flag"),
    [
        ("胸口疼了快半小时，一身汗，左胳膊也麻", "acs_chest_pain"),
        ("我爸突然嘴歪，说话不清", "stroke_face_speech"),
        ("觉得活着没意思，不想活了", "suicide_intent"),
        ("血压190/125，头疼得厉害，看不清东西", "bp_emergency"),
        ("宝宝才40天，发烧38度", "infant_fever"),
        ("打了胰岛素没吃饭，血糖低，现在叫不醒", "hypoglycemia_coma"),
        ("大便发黑像柏油样，头晕心慌", "melena"),
        ("孕32周阴道出血怎么办", "pregnancy_bleeding"),
        ("突然头疼，这辈子最厉害的一次", "sudden_worst_headache"),
        ("睾丸突然疼得厉害", "testicular_torsion"),
    ],
)
def test_red_flags_are_raised_by_lay_words(question: str, flag: str) -> None:
    raised = {f.id for f in knowledge.red_flags() if all(any(sign in question for sign in group) for group in f.signs)}
    assert flag in raised


def test_red_flags_stay_silent_on_everyday_questions() -> None:
    everyday = [
        "我的血压140/90需要担心吗？",
        "空腹血糖7.2高吗？",
        "感冒三天了有点咳嗽，吃什么药好？",
        "刚确诊高血压，很担心以后怎么办",
        "二甲双胍饭前吃还是饭后吃？",
        "宝宝11个月了，添加辅食要注意什么？",
        "体检说有甲状腺结节3级，严重吗",
    ]
    for question in everyday:
        for flag in knowledge.red_flags():
            assert not all(any(sign in question for sign in group) for group in flag.signs), (question, flag.id)


def test_red_flags_say_where_to_go() -> None:
    for flag in knowledge.red_flags():
        if flag.action in ("120", "12356"):
            assert flag.action in flag.must_say, flag.id
        assert not set(flag.must_say) & set(flag.must_not), flag.id
