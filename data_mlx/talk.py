"""One case on its way to an exact answer: its random generator, its slots, and sentences that all families share."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from data_mlx import figures, warmth
from data_mlx.amounts import AMOUNTS
from data_mlx.cases import Case, Narrative, conditions, dosed, narratives
from data_mlx.readings import BY_QUANTITY
from data_mlx.spin import slot_names, spin
from precision_lora.knowledge import Condition

# Conditions whose figures are meant for children too.
CHILD_AMOUNTS = frozenset({"child_fever", "hfmd", "common_cold", "pharyngitis", "influenza", "scald"})
# What people may buy and take by themselves when it is bad; all else is for the doctor to choose.
SELF_CARE = frozenset({"对乙酰氨基酚", "布洛芬", "氯雷他定", "西替利嗪", "氨溴索", "铝碳酸镁", "蒙脱石散", "乳果糖"})


WHO = {
    "我": ("您",),
    "妈妈": ("您母亲", "您妈妈"),
    "爸爸": ("您父亲", "您爸爸"),
    "老公": ("您先生", "您爱人"),
    "老婆": ("您太太", "您爱人"),
    "爷爷": ("您爷爷", "老人家"),
    "奶奶": ("您奶奶", "老人家"),
    "儿子": ("孩子",),
    "女儿": ("孩子",),
}


def as_tuple(text: str | tuple[str, ...]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


class Talk:
    """One case on its way to text: the generator and the slots that its sentences share."""

    def __init__(self, case: Case, turn: int = 0) -> None:
        self.case = case
        self.rng = Random(f"{case.family}/{case.seed}/answer/{turn}")
        self.condition: Condition | None = conditions().get(case.condition)
        self.narrative: Narrative | None = narratives().get(case.condition)
        self.who = self.rng.choice(WHO[case.asker.relation])
        self._lifestyle: list[str] = []
        if self.condition is not None:
            self._lifestyle = self.rng.sample(self.condition.lifestyle, len(self.condition.lifestyle))
        own: dict[str, object] = {
            "who": self.who,
            "whos": f"{self.who}的" if self.rng.random() < 0.8 else self.who,
            "thing": self.thing(),
            "life1": lambda _: self._next_lifestyle(),
            "life2": lambda _: self._next_lifestyle(),
            "drug": lambda rng: self.drug_line(rng),
        }
        if self.condition is not None:
            own |= {
                "dept": self.condition.department,
                "follow_up": lambda rng: rng.choice(as_tuple(self.condition.follow_up)),
                "cond": self.condition.name,
            }
        self.slots = figures.FactSlots(own)

    def _next_lifestyle(self) -> str:
        return self._lifestyle.pop() if self._lifestyle else ""

    def thing(self) -> str:
        """What the question is about, as the opening sentence names it."""
        case = self.case
        if case.quantity == "blood_pressure":
            return "血压"
        if case.quantity:
            name = BY_QUANTITY[case.quantity].names[-1]
            return self.rng.choice((name, name, "这个结果", "这个数"))
        if case.drug:
            return self.rng.choice(("用药的事", case.drug, "这个药"))
        if self.condition is None:
            return "这种情况"
        return self.rng.choice(
            (
                self.condition.name,
                self.condition.name,
                self.condition.lay_names[0] if self.condition.lay_names else "这件事",
            )
        )

    def say(self, template: str) -> str:
        """One sentence of a template."""
        return spin(self.rng, template, self.slots)  # type: ignore[arg-type]

    def pick(self, templates: Sequence[str]) -> str:
        return self.say(self.rng.choice(templates))

    def some(self, templates: Sequence[str], count: int) -> list[str]:
        """Up to ``count`` different templates, in a new order; empty sentences are left out."""
        chosen = self.rng.sample(list(templates), min(count, len(templates)))
        return [text for template in chosen if (text := self.say(template))]

    def usable(self, templates: Sequence[str]) -> list[str]:
        """Templates whose drug slot can be filled."""
        return [t for t in templates if "drug" not in slot_names(t) or self.allowed_drugs()]

    def allowed_drugs(self) -> list[str]:
        """Drugs of the condition that may be named to this patient."""
        if self.condition is None or self.case.asker.age < 18:
            return []
        if self.case.asker.group and self.case.condition != "gestational_hypertension":
            return []
        return dosed(self.condition)

    def amounts(self) -> list[str]:
        """Templates with figures that fit the patient, in a new order."""
        age = self.case.asker.age
        if age < 18 and self.case.condition not in CHILD_AMOUNTS:
            return []
        fitting = [a for a in AMOUNTS.get(self.case.condition, ()) if not (age < 1 and "mg" in a)]
        return self.rng.sample(fitting, len(fitting))

    def doubt(self) -> str:
        """What else it may be: the condition's differentials."""
        assert self.condition is not None
        others = self.rng.sample(self.condition.differentials, min(2, len(self.condition.differentials)))
        named = self.rng.choice(("和", "、", "或者")).join(others)
        return self.say(
            self.rng.choice(
                (
                    f"[也要|还得|同时要]排除{named}",
                    f"[还要|要]和{named}[区分开|鉴别]",
                    f"{named}[也有可能|也不能排除]",
                    f"[是不是|会不会是]{named}，[要结合检查判断|查过才能分清]",
                )
            )
        )

    def drug_line(self, rng: Random) -> str:
        """``氨氯地平，每日一次，每次5 mg`` of a drug of this condition."""
        names = self.allowed_drugs()
        if not names:
            raise KeyError("drug")
        entry = figures.drug(rng.choice(names))
        assert entry is not None
        dose = figures.dose(rng, entry)
        return rng.choice((f"{entry.name}{dose}", f"{entry.name}（{dose}）", f"{entry.name}，{dose}"))

    def empathy(self) -> str:
        """The feeling met; now and then nothing for calm askers."""
        return self.pick(warmth.REACTION[self.case.feeling])

    def closing(self) -> str:
        if self.rng.random() < 0.16:
            return self.pick(warmth.EXPLORE)
        return self.pick(warmth.CLOSING)

    def urgent(self, signs: Sequence[str], place: str = "") -> str:
        """When not to wait: signs are finished text."""
        few = self.rng.sample(list(signs), min(len(signs), self.rng.choice((1, 2, 2, 3))))
        if not few:
            return ""
        listed = self.rng.choice(("、", "，或者", "，或")).join(few) if len(few) < 3 else "、".join(few)
        return self.say(
            self.rng.choice(
                (
                    f"[如果|要是|一旦]出现{listed}，[要马上|请立刻|就马上]去[急诊|医院]。",
                    f"[碰到|遇到|出现]{listed}[这样的情况|时]，[别等|不要拖|别硬扛]，[直接|马上]去急诊。",
                    f"[记住|请记住|提醒一句]：{listed}[是危险信号|都不能等]，[要立即|应当马上]就医。",
                    f"[有|出现]{listed}，[就|那就]不能[等|拖]了，[当天|马上]去医院。",
                    f"[万一|倘若|若]{listed}，[随时|立刻]到急诊[看|处理]。",
                )
            )
        )


def is_young(case: Case) -> bool:
    """Whether the doctor says 你: young people writing for themselves, some of them."""
    return case.asker.relation == "我" and case.asker.age < 32 and Random(f"{case.seed}/young").random() < 0.5
