"""Loads the CLIP to train, or builds a tiny one for the captions at hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

from components.training.pathoclip.config import PathoclipConfig, TinyClip
from pathoflow.errors import InputError
from pathoflow.modeling.loading import LoadReport, ModelReference
from pathoflow.modeling.loading import load as load_weights
from pathoflow.modeling.source_config import TINY

START, END = "<|startoftext|>", "<|endoftext|>"


def load(config: PathoclipConfig, captions: Sequence[str]) -> tuple[CLIPModel, CLIPProcessor, LoadReport | None]:
    """Returns the model to train, its processor, and the load report if it was not built here.

    Args:
        config: Names the checkpoint, or asks for a tiny model.
        captions: Texts to learn the tiny model's vocabulary from.

    Raises:
        InputError: The checkpoint cannot be loaded.
    """
    if config.model == TINY:
        return *_build(config.tiny, captions, config.seed), None
    reference = ModelReference(config.model, config.revision, config.ignored_tensors)
    model, report = load_weights(CLIPModel, reference)
    try:
        return model, CLIPProcessor.from_pretrained(reference.directory()), report
    except (OSError, ValueError) as error:
        raise InputError(f"pathoclip.model: {reference} has no processor that can be loaded: {error}") from error


def _build(tiny: TinyClip, captions: Sequence[str], seed: int) -> tuple[CLIPModel, CLIPProcessor]:
    tokenizer = _train_tokenizer(captions, tiny)
    tower = {"num_attention_heads": tiny.num_heads, "projection_dim": tiny.embedding_size}
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "hidden_size": tiny.text_width,
            "intermediate_size": 4 * tiny.text_width,
            "num_hidden_layers": tiny.text_depth,
            "max_position_embeddings": tiny.max_length_tokens,
            # CLIP takes a caption's embedding at this token.
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            **tower,
            "hidden_size": tiny.vision_width,
            "intermediate_size": 4 * tiny.vision_width,
            "num_hidden_layers": tiny.vision_depth,
            "image_size": tiny.image_size_px,
            "patch_size": tiny.patch_size_px,
        },
        projection_dim=tiny.embedding_size,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config)
    side = tiny.image_size_px
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return model, CLIPProcessor(image_processor, tokenizer)


def _train_tokenizer(captions: Sequence[str], tiny: TinyClip) -> PreTrainedTokenizerFast:
    """Trains a BPE vocabulary over lower-case bytes, as CLIP's, between CLIP's start and end tokens.

    Differs from source: a leading space marks the start of a word, where CLIP's `</w>` marks its end. The trainer
    numbers symbols with a suffix in the order of a hash table, and so differs from run to run.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tiny.vocabulary_size,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (START, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=tiny.max_length_tokens,
    )
