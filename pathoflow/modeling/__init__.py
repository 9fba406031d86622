"""Builds, loads and saves the vision-language model, its processor and its tokenizer."""
