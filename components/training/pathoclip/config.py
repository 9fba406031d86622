"""Configuration of the `pathoclip` stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pathoflow.contract.config import ImageKind, OutputKind
from pathoflow.modeling.source_config import SourceConfig


class TinyClip(BaseModel):
    """Dimensions of a CLIP that is built with random weights and trained from scratch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size_px: int = Field(default=56, ge=14, le=1024, description="Side of the square input image, in pixels.")
    patch_size_px: int = Field(default=8, ge=2, le=64, description="Side of a patch, in pixels.")
    vision_width: int = Field(default=96, ge=16, le=4096, description="Hidden size of the image tower.")
    vision_depth: int = Field(default=3, ge=1, le=64, description="Layers of the image tower.")
    text_width: int = Field(default=96, ge=16, le=4096, description="Hidden size of the text tower.")
    text_depth: int = Field(default=2, ge=1, le=64, description="Layers of the text tower.")
    num_heads: int = Field(default=4, ge=1, le=64, description="Attention heads of both towers.")
    embedding_size: int = Field(default=64, ge=8, le=4096, description="Size of the shared embedding.")
    vocabulary_size: int = Field(
        default=1000, ge=600, le=200_000, description="Tokens of the BPE vocabulary that is learned from the captions."
    )
    max_length_tokens: int = Field(
        default=64, ge=8, le=1024, description="Longest caption in tokens; what is longer is cut off."
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> TinyClip:
        if self.vision_width % self.num_heads or self.text_width % self.num_heads:
            raise ValueError(f"both widths must be multiples of num_heads = {self.num_heads}")
        if self.image_size_px % self.patch_size_px:
            raise ValueError(f"image_size_px must be a multiple of patch_size_px = {self.patch_size_px}")
        return self


class PathoclipConfig(SourceConfig):
    """Configuration of the model and its training."""

    stage: ClassVar[str] = "pathoclip"
    inputs: ClassVar[tuple[str, ...]] = ("corpus",)
    output: ClassVar[OutputKind] = "model"
    image: ClassVar[ImageKind] = "train"
    can_use_gpus: ClassVar[bool] = True
    keeps_checkpoints: ClassVar[bool] = True
    key_metric: ClassVar[str | None] = "recall_at_1"

    model: str = Field(
        default="openai/clip-vit-base-patch16",
        min_length=1,
        description="A CLIP to start from: a name on the model hub (with `revision`), a directory by its absolute "
        "path, or `tiny` to build one with random weights and a tokenizer learned from the captions.",
    )
    min_initial_rank: float | None = Field(
        default=0.55,
        gt=0.0,
        lt=1.0,
        description="Refuse a pretrained CLIP that, before the first step, finds an image's own caption nearer than "
        "less than this share of other captions; 0.5 is chance. null refuses none.",
    )
    tiny: TinyClip = Field(default=TinyClip(), description="Dimensions of the model when `model` is `tiny`.")
    seed: int = Field(default=0, ge=0, description="Decides the random weights, the batches and the crops.")
    num_steps: int = Field(default=1000, ge=1, description="Optimiser steps.")
    batch_size: int = Field(default=256, ge=2, description="Pairs in a step; each is told apart from all others.")
    learning_rate: float = Field(default=5e-5, gt=0.0, le=0.1, description="Peak of the cosine schedule.")
    warmup_steps: int = Field(default=50, ge=0, description="Steps in which the learning rate rises to its peak.")
    weight_decay: float = Field(default=0.2, ge=0.0, le=1.0, description="AdamW's, on matrices only.")
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="AdamW's first decay rate.")
    beta2: float = Field(default=0.98, ge=0.0, lt=1.0, description="AdamW's second decay rate.")
    epsilon: float = Field(default=1e-6, gt=0.0, description="AdamW's epsilon.")
    min_crop_share: float = Field(
        default=0.75, gt=0.0, le=1.0, description="Smallest share of an image's area that a training crop shows."
    )
    checkpoint_every_steps: int = Field(default=100, ge=1, description="Steps between checkpoints.")
    num_threads: int | None = Field(
        default=None, ge=1, le=256, description="CPU threads of torch; null leaves torch's choice."
    )
