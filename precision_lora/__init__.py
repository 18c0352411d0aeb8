"""Precision LoRA: phase-weighted LoRA training, fact-checked evaluation and shard-by-shard fusion on MLX."""
