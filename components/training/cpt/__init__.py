"""Continues the pretraining of Qwen2.5-VL on the corpus."""
