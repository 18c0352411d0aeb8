# ruff: noqa: E501  (a template stays on one line, to be read as a sentence)
"""What a doctor says with a figure for each condition: amounts, spans and lines, every number a slot of the fact table."""

from __future__ import annotations

_EXERCISE = (
    "[每周|一周]中等强度运动{exercise}，[快走骑车都行|比如快走、游泳]",
    "[运动|锻炼][一周|每周]累计{exercise}，[微微出汗就够|能说话不能唱歌的强度]",
)
_SALT = (
    "[每天食盐|吃盐每天]{salt}，[酱油、咸菜也算在内|腌菜和酱料也要算]",
    "[盐每天|食盐每日]控制在{salt}，[汤少喝|酱料少放]",
)
_SLEEP = ("[每晚|一天]睡{sleep_adult}[就够|左右]，[起床时间固定|按点起床]",)
_TARGET = ("[血压|平时血压][目标|控制到]{bp_target_general}，[受得了|能耐受]再到{bp_target_tolerated}",)
_HOME = ("[初诊或调药|刚开始或换药]时连续{bp_home_days}在家量血压，[家里|自测]以{htn_home}为高",)
_SWEET = ("[添加糖|额外加的糖]每天{sugar}，[甜饮料最好不碰|越少越好]",)
_GREENS = ("蔬菜每天[吃|要有]{vegetables}，[深色的占一半|绿叶菜多些]",)
_FEVER = ("[体温|腋温]{fever}[算发烧|才叫发热]，[自己吃退烧药|自行退热][别超过|最多]{fever_selfcare.high}",)

AMOUNTS: dict[str, tuple[str, ...]] = {
    "hypertension": (*_SALT, *_EXERCISE, *_TARGET, *_HOME),
    "high_normal_bp": (*_SALT, *_EXERCISE),
    "gestational_hypertension": (
        "[怀孕以后|孕期]血压{htn_pregnancy}就[考虑|要当心]妊娠期高血压，{htn_pregnancy_severe}要[住院|马上住院]降压",
    ),
    "coronary_disease": (
        "[胸痛|胸口疼]{chest_pain_120}还不缓解，[立刻|马上]打120",
        "低密度脂蛋白胆固醇[降到|目标]{ldl_goal_very_high}",
        *_SALT,
    ),
    "heart_failure": (*_SALT,),
    "stroke": (*_TARGET, "低密度脂蛋白胆固醇[一般|]降到{ldl_goal_very_high}", *_SALT),
    "tachycardia": (
        "[安静时|静坐时]心率{hr_normal}[算正常|是正常的]，[早上没起床时数|坐定再数]最准",
        *_SLEEP,
    ),
    "type2_diabetes": (
        "[多数人|一般]糖化血红蛋白[控制到|目标]{dm_target_hba1c}",
        "空腹血糖[控制在|目标]{dm_target_fpg}",
        *_EXERCISE,
        *_SWEET,
        *_GREENS,
    ),
    "prediabetes": (
        "空腹血糖[回到|降回]{fpg_normal}[就好|是目标]",
        "[超重的话|胖的人]减重目标[先定|定在]{weight_loss_first}",
        *_EXERCISE,
        *_SWEET,
    ),
    "hypoglycemia": (
        "[一发作|心慌手抖时]先吃{hypo_rescue_sugar}[葡萄糖|糖块]，过{hypo_rescue_recheck}再测血糖",
        "糖尿病人血糖{hypo_dm}就[要处理|按低血糖处理]",
    ),
    "gestational_diabetes": ("[孕期|怀孕后]空腹{gdm_fasting.low}、服糖后两小时{gdm_2h.low}[是诊断线|达到就可诊断]",),
    "dyslipidemia": (
        "[一般人|没有别的病的人]低密度脂蛋白胆固醇{ldl_goal_low}[就可以|即可]，[中高危|有高血压糖尿病]要{ldl_goal_middle_high}",
        *_EXERCISE,
    ),
    "hypertriglyceridemia": ("甘油三酯{tg_ok}[才合适|是合适水平]", *_EXERCISE, *_SWEET),
    "hyperuricemia": ("[每天喝水|饮水每天]{gout_water}", "血尿酸{hyperuricemia}[才叫|就是]高尿酸血症"),
    "gout": ("[每天喝水|饮水每天]{gout_water}", "[平稳以后|缓解后]血尿酸[长期保持|要降到]{gout_target}"),
    "fatty_liver": (
        "[减重目标|先把减重目标]定在{weight_loss_first}，[肝就会轻松不少|肝酶多半会降]",
        *_EXERCISE,
    ),
    "ckd": ("[能耐受的话|受得了的话]血压降到{bp_target_tolerated}", *_SALT),
    "anemia": ("血红蛋白[女性|女的]{hb_female}、[男性|男的]{hb_male}[是正常|才正常]",),
    "osteoporosis": (
        "[五十岁以后|上了年纪]每天[补够|吃够]钙{calcium_elderly}，[牛奶算在内|食物里的也算]",
        "[牛奶|奶类]每天{milk}",
    ),
    "obesity": (
        "[头半年|前几个月]减重目标定在{weight_loss_first}",
        *_EXERCISE,
        "体重指数{bmi_obese}[算肥胖|才叫肥胖]，{bmi_normal}[是正常|算正常]",
    ),
    "kidney_stone": ("[每天喝水|饮水每天]{stone_water}",),
    "common_cold": _FEVER,
    "pharyngitis": _FEVER,
    "influenza": ("[抗病毒药|奥司他韦]最好在发病{oseltamivir_hours.high}内[开始|用上]", *_FEVER),
    "child_fever": (
        "[孩子|娃]体温{antipyretic_child_temp}又[难受|不舒服]时再用退烧药",
        "对乙酰氨基酚[按体重|按公斤体重]每次{paracetamol_child}，[间隔|隔]{paracetamol_gap}",
    ),
    "hfmd": ("[孩子|娃]体温{antipyretic_child_temp}又难受时再用退烧药",),
    "pneumonia": ("[家里有指夹血氧仪的|有血氧仪]测一测，血氧{spo2_normal.low}以上[算正常|正常]",),
    "bronchitis": ("[成人|大人]咳嗽{cough_acute.high}以内[叫急性咳嗽|多是急性的]，[超过就要拍片|再久要查]",),
    "h_pylori": ("四联药要吃满{hp_course}", "停药{hp_recheck}后[再|才]复查呼气试验"),
    "constipation": ("膳食纤维每天{fibre}，[粗粮加蔬菜能吃够|靠粗粮、蔬菜和水果]", *_GREENS),
    "migraine": (
        "[止痛药|止疼片]别太勤，[一个月|每月]{moh_days.low}以上[反而会引起头痛|会变成药物性头痛]",
        *_SLEEP,
    ),
    "tension_headache": (*_SLEEP, "[止痛药|止疼药]自己连着吃别超过{pain_selfcare.high}"),
    "dysmenorrhea": ("[止痛药|止疼药]连着吃[别超过|不要超过]{pain_selfcare.high}",),
    "knee_oa": ("[胖的人|超重的话]减重目标定在{weight_loss_first}，[膝盖会轻松很多|疼会轻不少]",),
    "anxiety": ("抗焦虑药[一般|通常]{ad_onset}才起效，[头几天别急|先别急着停]", *_SLEEP),
    "panic": ("[这类药|抗焦虑药][一般|通常]{ad_onset}才起效",),
    "depression": ("抗抑郁药[一般|通常]{ad_onset}[起效|才见效]，[好转后还要|之后再]巩固{ad_course}", *_SLEEP),
    "postpartum_depression": ("抗抑郁药[一般|通常]{ad_onset}[起效|才见效]，[喂奶时用哪种|哺乳期用药]由医生挑",),
    "insomnia": (
        *_SLEEP,
        "[一周|每周]失眠{insomnia_week}，[又影响白天|白天也受影响]，[才算失眠症|就该看医生]",
    ),
    "caregiver": _SLEEP,
    "sleep_apnea": ("[超重的|胖的人]减重目标[先定|定在]{weight_loss_first}",),
    "scald": ("[流动的凉水|自来水]冲{burn_cool}",),
    "neutropenia": ("[成人|大人]白细胞正常是{wbc_normal}",),
    "thrombocytopenia": ("血小板正常是{plt_normal}，{plt_bleeding}[容易自己出血|有自发出血的风险]，要去急诊",),
    "copd": ("[血氧|指夹血氧]{spo2_hypoxaemia}[就要去医院|不能等]",),
    "asthma": ("[发作时|喘的时候]血氧{spo2_hypoxaemia}[是重症信号|要马上去急诊]",),
    "uti": ("[白天|每天]多喝水，{water_female}[往上|以上]，[别憋尿|有尿就排]",),
    "pulmonary_nodule": (
        "{nodule_small}[叫微小结节|的是微小结节]，{nodule_little}[叫小结节|算小结节]，[绝大多数是良性|多数是良性]",
    ),
}
