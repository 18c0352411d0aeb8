"""Regular expressions for medical nouns that no list can hold: body parts with complaints and findings, forms of
diseases and drugs, generic names by their stems.

They run over folded text (``numerals.fold``: one character to one). Every gap is bounded: the search is linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CLASSES = ("disease", "symptom", "test", "remedy", "drug", "place")
DISEASE, SYMPTOM, TEST, REMEDY, DRUG, PLACE = CLASSES


def _rules(starts: str, rules: Iterable[str]) -> re.Pattern[str]:
    """The rules as one alternation that is tried only at the characters ``starts``."""
    return re.compile(f"(?=[{re.escape(starts)}])(?:{'|'.join(rules)})")


# The characters with which some rule can begin: looked at first, since three positions of four begin nothing.
# A test derives them from the rules.
COMPOUND_STARTS = (
    "一上下两主乳会伤侧全关冠前半单卵双口只右后呼咽喉嗓嘴四垂声外大太头子宫小尿屁左心扁手指椎气泌浑消"
    "淋牙瓣甲皮盆眼睾神结耳肋肌肘肚肛肝肠肩肺肾胃胆背胰胳胸脊脑脖脚脸脾腕腮腰腹腿膀膝臀舌血视角足跟踝"
    "软输边阴面韧颅颈额食骨黏鼻"
)


# Body parts that are too short, or too common, to be terms of their own.
_PART = (
    r"(?:左|右|双|两|单|一)?(?:侧|边|只)?(?:前|后|上|下|小|大)?"
    r"(?!心疼|心酸|心痒|眼红|手痒|脸红|嘴硬|手软|眼热)(?:手脚|头皮|头顶|后脑勺|后脑|太阳穴|额头|头|眼睛|"
    r"眼皮|眼球|眼眶|眼角|眼|耳朵|耳|鼻子|鼻腔|鼻梁|鼻|嘴唇|嘴角|嘴巴|口腔|舌头|舌|"
    r"牙齿|牙龈|牙|下巴|面部|脸|脖子|颈|咽|喉|嗓子|肩膀|肩|胳膊|手臂|上臂|前臂|手肘|肘|手腕|腕|手指|手掌|"
    r"手|指关节|指|"
    r"胸口|胸|乳房|乳头|乳腺|乳|心口|心脏|心|后背|背|腰骶|腰椎|腰|肋骨|肋|胃|上腹|下腹|小腹|腹股沟|腹|"
    r"肚子|肚脐|肝|胆|脾|胰|"
    r"肾|肺|肠|膀胱|尿道|肛门|屁股|臀|会阴|外阴|阴道|子宫|宫颈|卵巢|睾丸|阴囊|阴茎|大腿|小腿|腿|膝盖|膝|"
    r"脚踝|踝|脚跟|脚趾|"
    r"脚背|脚底|脚后跟|足底|足跟|足|脚|关节|骨头|骨|肌肉|皮肤|甲状腺|颈椎|胸椎|腰背|四肢|全身|浑身|伤口|"
    r"淋巴结|血管|脑|"
    r"脑白质|肩袖|半月板|韧带|主动脉|冠脉|心肌|心室|心房|瓣膜|颅内|消化道|泌尿系|泌尿道|呼吸道|气道|胆道|"
    r"胃肠道|肠道|骨盆|脊柱|椎间盘|"
    r"神经|胸膜|肝脏|肾脏|脾脏|胰腺|鼻窦|甲状旁腺|肾上腺|垂体|咽喉|咽部|胸腔|腹腔|盆腔|心包|腮腺|胸椎|"
    r"肌腱|跟腱|软骨|黏膜|"
    r"食管|输尿管|胆囊|胆管|前列腺|扁桃体|鼻窦|声带|角膜|结膜|视网膜)(?:部|里|上|内|面)?"
)
_HOW = (
    r"(?:有点|有些|有时|一直|特别|老是|老|总是|总|经常|时不时|反复|偶尔|持续|突然|也|又|会|还|很|隐隐|"
    r"剧烈|阵发性|阵阵|明显|轻微|稍微){0,2}"
)
_COMPLAINT = (
    r"(?:疼痛|酸痛|胀痛|刺痛|隐痛|绞痛|剧痛|闷痛|抽痛|跳痛|压痛|作痛|疼|痛|酸胀|酸|胀气|胀|发麻|麻木|麻|"
    r"红肿|肿胀|水肿|浮肿|肿|"
    r"瘙痒|发痒|痒|不适|不舒服|难受|无力|没力|僵硬|发紧|发热|发凉|冰凉|出血|流血|流脓|干涩|发炎|抽筋|抽搐|"
    r"发抖|发胀|发沉|沉重|"
    r"灼热|充血|破溃|溃烂|脱皮|起泡|起皮|松动|移位)"
)
_FINDING = (
    r"(?:[iⅰⅱⅲ123一二三]{1,3}度)?(?:积液|结节|囊肿|结石|息肉|肿瘤|腺瘤|血管瘤|癌|炎症|炎|增生|钙化灶|钙化|"
    r"穿孔|梗阻|破裂|扭伤|挫伤|骨折|裂伤|拉伤|损伤|"
    r"肥大|肿大|脱垂|粘连|萎缩|纤维化|坏死|脓肿|感染|溃疡|狭窄|肿物|占位|撕裂|断裂|病变|变性|硬化|麻痹|"
    r"痉挛|功能紊乱|功能障碍|功能不全|功能减退|梗死|栓塞|血栓|瘫痪|缺损|反流|"
    r"充血|水肿|出血|缺血)"
)
_IMAGING = (
    r"(?:平扫|增强)?(?:ct|cta|mri|mra|核磁共振|核磁|磁共振|b超|彩超|超声|x光片|x光|x线片|x线|平片|造影|"
    r"镜检查|镜)(?:检查|平扫|造影)?"
)
COMPOUND = _rules(
    COMPOUND_STARTS,
    (rf"{_PART}(?:(?P<disease>{_FINDING})|(?P<test>{_IMAGING})|{_HOW}(?P<symptom>{_COMPLAINT}))",),
)
# A syndrome that no table names: what stands before 综合征, without verbs and function words.
SYNDROME = re.compile(r"综合[征症]")
SYNDROME_NAME = re.compile(r"[^\W\d_a-z是的有为了和与或及个种符合考虑诊断提示属于可能怀疑排除到成叫做引起于就]{1,5}$")
# Words that say which form of a disease: part of its name.
DISEASE_BEFORE = (
    r"(?:(?:轻中度|中重度|中至重度|轻至中度|轻度|中度|重度|轻型|重型|急性|慢性|亚急性|早期|中期|晚期|"
    r"原发性|继发性|病毒性|细菌性|"
    r"过敏性|感染性|复发性|反复性|非特异性|生理性|病理性|特发性|老年性|老年|小儿|儿童|婴儿|妊娠期|"
    r"妊娠合并|单纯性|单纯|良性|恶性|"
    r"多发性|多发|单发|陈旧性|非典型|隐匿性|化脓性|萎缩性|糜烂性|浅表性|出血性|缺血性|代谢性|药物性|"
    r"酒精性|非酒精性|"
    r"[1-3一二三ⅠⅡⅢi]{1,3}(?:级|期|度)|[左右双]侧|[左右双]|中重|轻中) ?){0,3}"
)
DRUG_BEFORE = (
    r"(?:苯磺酸|马来酸|甲磺酸|盐酸|硫酸|磷酸|琥珀酸|酒石酸|富马酸|枸橼酸|门冬氨酸|氢溴酸|醋酸|复方|"
    r"重组人?|注射用)?"
)
# Generic names that no table holds, by the stems of the Chinese pharmacopoeia.
DRUG_STEM = re.compile(
    r"(?:沙坦|普利|地平|他汀|洛尔|格列[酮齐美吡喹隆奈本嗪]|列汀|列净|拉唑|替丁|沙星|西林|霉素|环素|硝唑|"
    r"康唑|唑仑|西泮|洛芬|昔布|昔康|双胍|波糖|鲁肽|"
    r"昔芬|曲坦|西汀|普兰|必利|司琼|夫定|那韦|洛韦|替尼|单抗|膦酸钠|膦酸|米松|奈德|替卡松|特罗|溴铵|茶碱|"
    r"溴索|西坦|他定|利嗪|斯汀|司特|沙班|加群|肝素|"
    r"瑞林|那非|罗辛|雄胺|巴林|喷丁|氮平|哌齐|刚胺|布坦|嘌醇|仑|甘草酸|芬那酸|氯芬酸钠?)"
)
# What may stand before the stem and belong to the name: no verbs, no function words.
DRUG_STEM_BEFORE = re.compile(
    r"[^\W\d_a-z的了和与或用服吃是有为在加予给可联合改换停及口药如即从把被让后前先再每天种类他她这那些叫含"
    r"注射滴外内择选首成不停需要比说来上到对将给由及]{1,4}$"
)
DRUG_AFTER = (
    r"(?:钾|钠|钙|镁)?(?:双)?(?:缓释|控释|肠溶|分散|咀嚼|泡腾|口腔崩解|薄膜衣|外用|干混悬|混悬|舌下)?"
    r"(?:iii|ii|ⅲ|ⅱ)?(?:片剂|片|胶囊剂|胶囊|颗粒剂|颗粒|口服液|口服溶液|糖浆|滴剂|混悬液|混悬滴剂|混悬|"
    r"滴眼液|眼药水|眼膏|滴鼻液|鼻喷雾剂|喷雾剂|"
    r"气雾剂|粉吸入剂|吸入剂|吸入粉雾剂|雾化液|乳膏|软膏|凝胶|栓剂|栓|贴片|贴剂|贴膏|注射液|注射剂|丸剂|"
    r"丸|散剂|冲剂|滴丸|洗剂|溶液)?"
)
