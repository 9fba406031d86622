"""Builds a tiny Qwen2.5-VL with random weights, for recipes that have no pretrained one."""
