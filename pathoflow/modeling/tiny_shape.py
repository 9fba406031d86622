"""Defines a tiny Qwen2.5-VL's dimensions, as a recipe sets them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TinyShape(BaseModel):
    """Dimensions of a Qwen2.5-VL that is built from its configuration with random weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary_size: int = Field(
        default=640,
        ge=288,
        le=200_000,
        description="Tokens of the BPE vocabulary, 256 bytes and 11 special ones included.",
    )
    hidden_size: int = Field(
        default=64, ge=16, le=8192, description="Width of the language model, a multiple of 4 times its heads."
    )
    num_layers: int = Field(default=4, ge=1, le=128, description="Layers of the language model.")
    num_heads: int = Field(default=4, ge=1, le=128, description="Attention heads of the language model.")
    intermediate_size: int = Field(
        default=192, ge=16, le=65_536, description="Width of the language model's feed-forward layers."
    )
    vision_depth: int = Field(default=2, ge=1, le=64, description="Blocks of the vision tower.")
    vision_hidden_size: int = Field(
        default=64, ge=16, le=8192, description="Width of the vision tower, a multiple of 4 times its heads."
    )
    vision_num_heads: int = Field(default=4, ge=1, le=128, description="Attention heads of the vision tower.")
    vision_intermediate_size: int = Field(
        default=128, ge=16, le=65_536, description="Width of the vision tower's feed-forward layers."
    )
    initializer_range: float = Field(
        default=0.06,
        gt=0.0,
        le=1.0,
        description="Standard deviation of the initial weights; narrow models need more than the usual 0.02.",
    )

    @model_validator(mode="after")
    def _heads_divide_widths(self) -> TinyShape:
        for width, heads in (
            (self.hidden_size, self.num_heads),
            (self.vision_hidden_size, self.vision_num_heads),
        ):
            if width % (4 * heads):
                raise ValueError(f"width {width} is not a multiple of 4 x {heads} heads (rotary positions need it)")
        return self
