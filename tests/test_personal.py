"""Personal data: found by kind and count, and everyday medical numbers left alone."""

import pytest

from precision_lora.personal import find_personal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The checksum of 11010519491231002X is worked out in GB 11643 itself.
        ("身份证11010519491231002X，血压高", {"身份证号": 1}),
        ("编号110105194912310021", {}),
        ("电话13800138000或+86 139-0013-9000", {"手机号": 2}),
        ("订单2138001380001", {}),
        ("发到 wang.li@example.com.cn 吧", {"邮箱": 1}),
        ("患者张三，男，45岁，高血压", {"姓名": 1}),
        ("姓名：李小明 年龄 60", {"姓名": 1}),
        ("患者高热三天，男性多见", {}),
        ("病人马上送医院，2小时内", {}),
        ("空腹血糖7.2 mmol/L，血压140/90，eGFR 58，12356", {}),
        ("", {}),
    ],
)
def test_counts_by_kind(text, expected):
    assert dict(find_personal(text)) == expected
