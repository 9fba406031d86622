"""Configuration of the `corpus` stage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from pathoflow.contract.config import StageConfig
from pathoflow.errors import ConfigError

Language = Literal["en", "zh", "other"]
Patterns = tuple[str, ...] | dict[str, str]
DuplicateRule = Literal["image_and_caption", "image", "caption", "image_or_caption"]

_TO_OPEN = r"\b(?:click|tap)(?: here| on (?:the |this )?(?:image|figure|picture))?(?: for| to) [^.;()]{0,60}\.?"
_PERMISSION = r"\b(?:re(?:produc|print|publish|us)ed|adapted|modified|used) with (?:kind )?permission\b[^.;]{0,120}\.?"
BOILERPLATE = {
    "click": _TO_OPEN,
    "tap ": _TO_OPEN,
    "open in": r"\bopen in (?:a )?new (?:tab|window)\b\.?",
    "view ": r"\bview (?:larger|full[- ]size)(?: version| image| figure)?\b\.?",
    "download": r"\bdownload (?:figure|image|powerpoint|ppt|slide|asset|original|high[- ]?res\w*)[^.;]{0,40}\.?",
    "size": r"\bfull[- ]size (?:image|figure|table)\b\.?",
    "©": r"©\s*(?:by )?(?:the )?(?:\d{4}|\w)[^.;]{0,100}\.?",
    "(c)": r"\(c\)\s*\d{4}[^.;]{0,100}\.?",
    "copyright": r"\bcopyright\s*(?:©|\(c\))?\s*(?:by )?(?:the )?(?:authors?\b|\d{4})[^.;]{0,100}\.?",
    "all rights": r"\ball rights reserved\b\.?",
    "permission": _PERMISSION,
    "for details": r"\b(?:see|refer to) (?:the )?(?:main )?(?:text|legend) for details\b\.?",
    "点击": r"点击(?:此处|图片)?(?:查看|放大|下载)[^。;]{0,20}。?",
    "版权": r"版权所有[^。;]{0,40}。?",
}
SAYING_NOTHING = (
    r"\b(?:scale )?bars?\b(?: represents?| indicates?| is|:)?\s*[=:,]?\s*"
    r"\d+(?:[.,]\d+)?\s*(?:[µμu]m|mm|cm|nm|microns?)\b",
    r"标尺\s*[=:＝：]?\s*\d+(?:\.\d+)?\s*(?:[µμu]m|mm|cm|微米|毫米)",
    r"\b(?:original )?magnifications?\b\s*[:=,]?\s*(?:[x×]\s*)?\d+(?:\s*[x×])?",
    r"(?:[x×]\s*\d{1,4}\b)|(?:\b\d{1,4}\s*[x×](?!\w))",
    r"\b(?:fig(?:ure)?s?|image|photo|plate|panel|case)\.?\s*(?:no\.?\s*)?(?:[a-z]?\d+(?:[.\-–]\d+)*)?\s*[a-z]?(?![\w])\s*[.:]?",
    r"图\s*\d+(?:[-–.]\d+)*\s*[a-z]?",
    r"(?<![\w])[a-h](?:\s*[-–,&]\s*[a-h])*(?![\w])",
    r"\b(?:untitled|no caption|n/?a|none|null|nan)\b",
    r"https?://\S+",
)


class CorpusConfig(StageConfig):
    """Rules for good pairs, for duplicates, and for the pairs that are held out."""

    stage: ClassVar[str] = "corpus"
    inputs: ClassVar[tuple[str, ...]] = ("textbook_pairs", "public_pairs")
    key_metric: ClassVar[str | None] = "num_train"

    heldout: tuple[str, ...] = Field(
        min_length=1,
        description="Glob patterns over `<source>/<source_id>`; what matches is held out for evaluation.",
    )
    dev_share: float = Field(
        default=0.02,
        ge=0.0,
        le=0.5,
        description="Share of the other books, slides, articles and images that goes to dev, chosen by a hash of "
        "their names.",
    )
    groups: dict[str, str] = Field(
        default={},
        description="What is never divided between splits, by source: a glob pattern over the source, and a regular "
        "expression whose first group finds the group's name in a source_id. Elsewhere it is what stands before "
        "the first slash: a book, a slide, an article.",
    )
    evaluation_sets: tuple[Path, ...] = Field(
        default=(),
        description="Data sets that models are scored on; no pair may repeat their images or bear their names. Each "
        "is a folder of Parquet files, of JSON that names images (PathMMU, MedXpertQA) or of images, one such file or "
        "a zip file, or a `.txt` with a name or a glob pattern over `<source>/<source_id>` a line.",
    )
    evaluation_bits: int = Field(
        default=6,
        ge=0,
        le=10,
        description="A pair goes if at most this many of the 64 bits of its image's perceptual hash differ from an "
        "evaluation image's.",
    )
    min_name_characters: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Shorter names of evaluation images (`1.jpg`) identify nothing and are not compared with pairs.",
    )
    duplicate_rule: DuplicateRule = Field(
        default="image_and_caption",
        description="What two pairs must share to be duplicates: an image that looks the same, a caption that reads "
        "the same, both, or either.",
    )
    near_duplicate_bits: int = Field(
        default=4,
        ge=0,
        le=10,
        description="Two images look the same if at most this many of the 64 bits of their perceptual hashes differ.",
    )
    caption_similarity: float = Field(
        default=0.8,
        ge=0.3,
        le=1.0,
        description="Two captions read the same if they share at least this much of their runs of words (Jaccard "
        "index); 1 asks for the same runs.",
    )
    shingle_words: int = Field(default=2, ge=1, le=8, description="Words in a run.")
    minhash_length: int = Field(
        default=48,
        ge=8,
        le=512,
        description="Length of the MinHash signatures by which captions that read the same are searched. Longer ones "
        "miss fewer where caption_similarity is low.",
    )
    isolation_bits: int = Field(
        default=4,
        ge=0,
        le=10,
        description="A train image at most this many bits from a held-out or dev image is dropped, whatever "
        "its caption.",
    )
    max_captions_per_image: int = Field(
        default=1, ge=1, le=100, description="Different captions of the very same image that are kept."
    )
    max_images_per_caption: int | None = Field(
        default=None,
        ge=1,
        description="Different images under the very same words that are kept; null keeps all.",
    )
    source_priority: tuple[str, ...] = Field(
        default=("textbook*",),
        description="Glob patterns over the source: of duplicates, the pair whose source matches the earliest stays.",
    )
    languages: tuple[Language, ...] = Field(
        default=("en", "zh"),
        min_length=1,
        description="Captions that are kept, by the script of most of their letters: Latin, Chinese, other.",
    )
    min_caption_letters: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="Fewest letters of a caption beside what says nothing; a Chinese character counts for two.",
    )
    max_caption_characters: int = Field(
        default=20_000, ge=1, le=10_000_000, description="Longer captions are set aside: a page that became a field."
    )
    boilerplate: dict[str, str] = Field(
        default=BOILERPLATE,
        description="What is cut out of captions: a regular expression by a word that is in every match, both in any "
        "case.",
    )
    saying_nothing: tuple[str, ...] = Field(
        default=SAYING_NOTHING, description="Regular expressions of what does not make a caption alone, in any case."
    )
    drop_blank_images: bool = Field(default=True, description="Whether images of one colour are dropped.")
    check_images: Literal["hash", "decode"] = Field(
        default="hash",
        description="How each image is checked before anything is decided: bytes against their SHA-256 and the head "
        "of a known format, or decoded too.",
    )
    max_image_pixels: int = Field(
        default=200_000_000, ge=1, description="Larger images are not decoded, neither pairs' nor evaluation sets'."
    )
    num_workers: int = Field(default=1, ge=1, le=256, description="Processes that read and check pairs.")
    shuffle_seed: int = Field(default=0, ge=0, description="Decides the order of the pairs in the shards.")
    shuffle_mib: int = Field(
        default=512,
        ge=1,
        le=1024,
        description="Pairs sorted in memory at once, in MiB; larger corpora are shuffled through the disk.",
    )
    shard_mib: int = Field(default=512, ge=1, le=1024, description="Size of a Parquet shard, in MiB.")
    row_group_mib: int = Field(default=64, ge=1, le=100, description="Size of a row group, in MiB.")
    webdataset: bool = Field(
        default=False, description="Whether `webdataset/` also gets the splits as tar files for open_clip."
    )
    webdataset_samples: int = Field(default=5000, ge=1, description="Samples in a tar file.")
    licences: dict[str, str] = Field(
        default={}, description="Licence of each source for the datasheet, by a glob pattern over the source."
    )
    lexicon: Path | None = Field(
        default=None, description="YAML file of diagnoses, by which the datasheet counts subfields."
    )

    @field_validator("boilerplate", "saying_nothing", "groups")
    @classmethod
    def _check_patterns(cls, value: Patterns, info: ValidationInfo) -> Patterns:
        for pattern in value.values() if isinstance(value, dict) else value:
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
            if info.field_name == "groups" and compiled.groups < 1:
                raise ValueError(f"{pattern!r} has no group in parentheses to take a name from")
        return value

    def external_files(self) -> list[Path]:
        """Returns the files of the evaluation sets, and the lexicon."""
        files = []
        for path in (*self.evaluation_sets, *([self.lexicon] if self.lexicon else [])):
            if not path.exists():
                raise ConfigError(f"corpus: there is no {path}. Correct corpus.evaluation_sets or corpus.lexicon.")
            files += sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        return files
