"""The preview shows each target's kinds and weights, and colours only where asked."""

from precision_lora.dataset import encode
from precision_lora.preview import preview
from precision_lora.rows import Message, Row
from tests.tiny_tokenizer import tiny_tokenizer

SETTINGS = {"steps": 5200, "precision_weight": 2.0, "empathy_weight": 1.0}


def test_preview_by_kind_and_phase():
    tokenizer = tiny_tokenizer()
    row = Row(12, (Message("user", "问"), Message("assistant", "您的血压是140/90 mmHg。")), None, 1.0)
    encoded = encode([row], tokenizer, 512)
    plain = preview(encoded, tokenizer, 5, colour=False, **SETTINGS)
    assert "第12行" in plain and "\x1b" not in plain
    assert "140/90 mmHg" in plain and "‹3/2/2›" in plain
    coloured = preview(encoded, tokenizer, 5, colour=True, **SETTINGS)
    assert "\x1b[36m140/90 mmHg\x1b[0m" in coloured
    assert preview(encoded, tokenizer, 0, colour=False, **SETTINGS).count("──") == 0
