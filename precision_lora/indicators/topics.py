"""Fields of medicine, told by the characters of a word: whether a term has to do with a question."""

from __future__ import annotations

import re
from functools import cache

from precision_lora import knowledge
from precision_lora.lexicon import longest_match_pattern
from precision_lora.numerals import fold

# Field -> pieces of words that belong to it. A piece may belong to several fields.
_CUES = {
    "血压":
        "钙通道 血管紧张素 受体阻滞剂 利尿剂 高血压 血压 高压 低压 收缩压 舒张压 降压 地平 普利 沙坦 洛尔 吲达帕胺 "
        "噻嗪 子痫 mmhg 盐 体位性 嗜铬",
    "心":
        "卵圆孔 房间隔 室间隔 动脉导管 心脏 心肌 心绞 心梗 心衰 心力 心电 心慌 心悸 心律 心率 心动 心室 心房 心跳 "
        "心血管 心内 冠心 冠脉 冠状 支架 "
        "搭桥 房颤 "
    "早搏 瓣膜 动脉 射血 漏跳 窦性 抗凝 华法林 阿司匹林 氯吡格雷 硝酸甘油 利钠肽 肌钙蛋白 胸闷 胸痛 胸口 他汀 "
    "地高辛 血栓 消融 inr",
    "糖":
        "血糖 糖尿病 糖化 糖耐量 胰岛 二甲双胍 格列 列净 列汀 降糖 阿卡波糖 口渴 多饮 多尿 酮症 低血糖 糖前期 升糖 "
        "c肽 糖友 鲁肽",
    "脂": "血脂 胆固醇 甘油三酯 脂蛋白 他汀 降脂 调脂 高脂 依折麦布 贝特 粥样 斑块 坏油脂",
    "尿酸": "尿酸 痛风 别嘌醇 非布司他 苯溴马隆 秋水仙碱 嘌呤 黄嘌呤",
    "甲状腺":
        "甲状腺 甲亢 甲减 甲功 甲癌 促甲 tsh 优甲乐 左甲状腺素 甲巯咪唑 丙硫氧嘧啶 碘 t3 t4 脖子变粗 脖子粗 怕热 "
        "桥本",
    "内分泌": "肾上腺 醛固酮 皮质醇 垂体 激素 内分泌 催乳素 库欣 性腺",
    "骨代谢": "骨质疏松 骨密度 钙 维生素d 维生素 抽筋 膦酸 甲状旁腺",
    "肺":
        "肺 咳 痰 喘 气道 支气管 呼吸 哮喘 慢阻肺 气短 气促 气管 血氧 结核 胸片 胸部 胸腔 憋气 打呼 打鼾 呼噜 吸烟 "
        "抽烟 戒烟 "
    "沙丁胺醇 布地奈德 一秒率 fev1 嗓子 流感 甲流 感冒 胸闷",
    "感染":
        "发烧 发热 退烧 退热 体温 感染 病毒 细菌 病原 抗生素 头孢 西林 沙星 霉素 流感 感冒 白细胞 中性粒 疫苗 "
        "对乙酰氨基酚 "
    "布洛芬 扁桃体 甲硝唑 奥司他韦 狂犬 破伤风 艾滋 hiv 炎症 消炎 c反应蛋白 crp 结核 杆菌 球菌 培养 烧",
    "胃肠":
        "胃 肠 腹 肚子 大便 便秘 便血 黑便 腹泻 拉肚子 水样便 反酸 烧心 烧灼 恶心 呕吐 消化 幽门 食管 溃疡 痔 肛 "
        "拉唑 铋 阑尾 吞咽 "
    "胀 口服补液 蒙脱石 乳果糖 息肉 腺瘤 嗳气 吐 轮状 cea 肚脐 便潜血 吃坏 嘌呤",
    "肝胆":
        "肝 胆 胰 黄疸 转氨酶 alt ast 乙肝 丙肝 胆红素 脂肪肝 乙肝表面 hbv 右上腹 右边肋骨 肋骨下 酒 小三阳 大三阳 "
        "两对半 淀粉酶 眼白",
    "肾":
        "肾 尿 肌酐 egfr 蛋白尿 泡沫 透析 滤过 膀胱 前列腺 输尿管 结石 小便 憋尿 洗肉水 水肿 浮肿 电解质 血钾 血钠 "
        "钾",
    "血液":
        "血红蛋白 贫血 铁蛋白 血小板 白细胞 血常规 凝血 骨髓 白血病 淋巴 紫癜 铁剂 亚铁 网织 红细胞 出血 脸色不好 "
        "脸色白 头晕 乏力 mcv inr 血细胞",
    "神经":
        "头痛 头疼 头晕 眩晕 脑 卒中 中风 偏瘫 神经 癫痫 抽搐 惊厥 手抖 震颤 麻木 手麻 发麻 痴呆 帕金森 偏头痛 "
        "肌电图 说话含糊 没力 记忆 "
    "天旋地转 晕 嘴歪 脸歪 歪了 面瘫 左旋多巴 意识 昏迷 头部 头颅 认不出 多巴 小碎步",
    "精神":
        "抑郁 焦虑 失眠 睡不着 情绪 心情 心理 精神 惊恐 自杀 不想活 自伤 压力 舍曲林 帕罗西汀 量表 phq gad 心理科 "
        "认知行为 自闭 多动 "
    "睡眠 安眠 唑仑 紧张 害怕 担心 崩溃 想哭 没意思 12356 社交 强迫 双相 恐惧 自卑 孤独 难过 产后 累赘",
    "骨关节":
        "关节 膝 腰 颈椎 骨折 脊柱 椎间盘 椎 肩 腕管 足底 脚后跟 滑膜 类风湿 风湿 晨僵 软骨 韧带 肌肉 肌腱 筋膜 "
        "扭伤 坐骨 半月板 骨科 "
    "x线 x光 骨刺 抗ccp 腿酸 跟腱 髋 手指 腿疼 腰疼 骨头 红斑狼疮 氨糖 双氯芬酸 塞来昔布 脊",
    "皮肤":
        "皮肤 湿疹 皮疹 红疹 疹 荨麻疹 痘 痤疮 银屑病 疱疹 水泡 水疱 痒 癣 脚气 带状 黑色素 基底细胞 脱发 掉头发 "
        "烫伤 疣 过敏 红斑 鳞屑 "
    "药膏 外用 他克莫司 风团 皮 特比萘芬 阿达帕林 雷诺",
    "眼": "眼 视力 视网膜 近视 青光眼 白内障 结膜 玻璃体 飞蚊 眼压 眼底 视野 黑影 散瞳 角膜 房角",
    "耳鼻喉": "耳 鼻 咽 喉 扁桃体 听力 听 鼓膜 眩晕 耳石 鼻炎 嗓子 声音嘶哑 打呼 呼噜 喷嚏 声导抗 鼻窦 天旋地转 翻身",
    "口腔": "牙 口腔 牙龈 牙周 龋 智齿 口臭 口气 溃疡 根管",
    "妇产":
        "孕 产科 月经 痛经 子宫 卵巢 阴道 白带 宫颈 hpv 乳腺 乳房 备孕 流产 胎 更年期 绝经 雌激素 围绝经 潮热 哺乳 "
        "妇科 nt 羊水 唐筛 hcg 宫外孕 "
    "试管 妊娠 产后 分娩 卵泡 fsh amh 胎停 染色体 排卵 输卵管 tct 阴道镜",
    "男科": "前列腺 精液 勃起 睾丸 阳痿 早泄 精索 包皮 psa",
    "儿科": "儿童 小儿 孩子 宝宝 婴儿 幼儿 新生儿 儿科 小孩 儿子 女儿 生长 骨龄 手足口 黄疸 疫苗 幼儿急疹 惊厥 补液 锌",
    "肿瘤": "癌 瘤 肿瘤 恶性 结节 肿块 化疗 放疗 活检 穿刺 转移 cea afp ca125 标志物 息肉 淋巴 病理 硬块 疙瘩 乳腺结节",
    "过敏免疫": "过敏 荨麻疹 免疫 红斑狼疮 狼疮 激素 抗核抗体 类风湿 风团 氯雷他定 西替利嗪 干燥综合征 羟氯喹 自身",
    "营养体重": "体重 bmi 肥胖 减肥 减重 超重 胖 营养 热量 饮食 主食 维生素",
    "血管外科": "静脉 血栓 曲张 下肢 动脉 小腿 d-二聚体 雷诺 抗凝",
    "疝": "疝 腹股沟 大腿根",
    "急救": "120 急诊 急救 心肺复苏 休克 中毒 过量 误服 溺水 窒息 咬 烫伤 昏迷",
}  # fmt: skip
# Fields that a careful answer to one of them may well speak of.
_NEIGHBOURS = {
    "血压": "心 肾 脂 糖 神经 内分泌 眼 急救 血管外科 尿酸 营养体重",
    "心": "血压 脂 糖 肺 血管外科 急救 甲状腺 血液 精神",
    "糖": "血压 脂 肾 心 眼 营养体重 甲状腺 内分泌 神经 急救 尿酸",
    "脂": "心 血压 糖 肝胆 营养体重 神经 甲状腺 血管外科 骨关节",
    "尿酸": "肾 骨关节 营养体重 糖 脂 血压 心",
    "甲状腺": "心 肿瘤 内分泌 妇产 耳鼻喉 骨代谢 糖 脂",
    "肺": "心 感染 耳鼻喉 过敏免疫 急救 肿瘤",
    "感染": "肺 耳鼻喉 血液 急救 儿科",
    "胃肠": "肝胆 感染 肿瘤 急救 血液 妇产 心 口腔",
    "肝胆": "胃肠 感染 脂 肿瘤 血液",
    "肾": "血压 糖 感染 尿酸 心 血液 肿瘤 骨代谢 男科",
    "血液": "妇产 胃肠 肿瘤 感染 骨代谢 甲状腺",
    "神经": "血压 血管外科 心 急救 耳鼻喉 骨关节 精神 糖 眼 血液 骨代谢",
    "精神": "神经 急救 甲状腺 心",
    "骨关节": "尿酸 神经 骨代谢 过敏免疫 感染 血管外科",
    "皮肤": "过敏免疫 感染 肿瘤",
    "眼": "神经 糖 血压",
    "耳鼻喉": "神经 感染 过敏免疫 肺 口腔",
    "口腔": "耳鼻喉 血液 感染 胃肠",
    "妇产": "内分泌 血液 肿瘤 甲状腺 糖 血压 感染 儿科 精神 胃肠 骨代谢 肾",
    "儿科": "感染 精神",
    "肿瘤": "血液 肺 胃肠 感染",
    "过敏免疫": "皮肤 肺 骨关节 耳鼻喉 急救",
    "血管外科": "心 血液 肺 急救",
    "疝": "胃肠 急救",
    "营养体重": "糖 脂 血压 肝胆 内分泌 尿酸",
    "内分泌": "血压 甲状腺 糖 妇产 骨代谢 肾",
    "骨代谢": "骨关节 内分泌 肾",
    "男科": "肾 内分泌 感染",
}


@cache
def _pattern() -> tuple[re.Pattern[str], dict[str, frozenset[str]]]:
    owners: dict[str, set[str]] = {}
    for field, cues in _CUES.items():
        for cue in cues.split():
            owners.setdefault(cue, set()).add(field)
    # A lookahead finds overlapping pieces: 高血压肾病 belongs to 血压 and to 肾.
    return re.compile(f"(?=({longest_match_pattern(owners)}))"), {k: frozenset(v) for k, v in owners.items()}


def fields_of(folded: str) -> frozenset[str]:
    """Fields of medicine that a folded text touches."""
    pattern, owners = _pattern()
    found: set[str] = set()
    for match in pattern.finditer(folded):
        found |= owners[match[1]]
    return frozenset(found)


@cache
def _condition_words() -> tuple[re.Pattern[str], dict[str, frozenset[str]]]:
    """Pattern of the words by which people tell a condition, and the fields of all that belongs to it."""
    words: dict[str, set[str]] = {}
    for entry in knowledge.conditions():
        around = " ".join((entry.name, *entry.aliases, *entry.examinations, *entry.drugs, *entry.differentials))
        fields = fields_of(fold(around))
        for word in (entry.name, *entry.aliases, *entry.lay_names):
            words.setdefault(fold(word), set()).update(fields)
    return re.compile(longest_match_pattern(words)), {k: frozenset(v) for k, v in words.items()}


def widen(fields: frozenset[str]) -> frozenset[str]:
    """The fields and their neighbours."""
    wide = set(fields)
    for field in fields:
        wide.update(_NEIGHBOURS.get(field, "").split())
    return frozenset(wide)


def fields_of_question(folded: str) -> tuple[frozenset[str], frozenset[str]]:
    """(fields that the question is about, the same with those that an answer may well touch)."""
    about = fields_of(folded)
    wide = set(widen(about))
    pattern, fields = _condition_words()
    for match in pattern.finditer(folded):
        wide |= fields[match[0]]
    return about, frozenset(wide)
