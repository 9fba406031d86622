"""The vision-language model: its processor, its tokenizer, a tiny version of it, and its checkpoints."""
