"""Defines ten diagnoses, the findings that vary within each, and the words for them.

Every phrase names something that `micrographs.render` draws, so a caption can be checked by looking. Siblings
(two diagnoses of one subfield) share all findings but the first, which is the feature that tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Phrase:
    """One thing said in each language of the atlas."""

    en: str
    zh: str

    def text(self, language: Language) -> str:
        """Returns the words in `language`."""
        return self.en if language == "en" else self.zh


Finding = dict[str, Phrase]
"""Values that one property of a specimen can take, with the phrase for each."""


@dataclass(frozen=True)
class Diagnosis:
    """A diagnosis of the atlas: its names, its preparation, and the findings that vary among specimens."""

    id: str
    name: Phrase
    subfield: str
    preparation: Phrase
    findings: dict[str, Finding]


@dataclass(frozen=True)
class Specimen:
    """One specimen: a diagnosis and the value of each of its findings."""

    diagnosis: Diagnosis
    findings: dict[str, str]


def _landmark(name: Phrase, absent: Phrase) -> Finding:
    """Defines a spot in one quarter of the field, or none."""
    return {"none": absent} | {
        f"{row} {column}": Phrase(f"{name.en} at {row} {column}", f"{column_zh}{row_zh}见{name.zh}")
        for row, row_zh in (("upper", "上"), ("lower", "下"))
        for column, column_zh in (("left", "左"), ("right", "右"))
    }


SPACING: Finding = {
    "wide": Phrase("wide spacing", "排列稀疏"),
    "even": Phrase("even spacing", "排列均匀"),
    "close": Phrase("close spacing", "排列紧密"),
}
STAIN: Finding = {"pale": Phrase("pale stain", "淡染"), "deep": Phrase("deep stain", "深染")}

ADENOMA: dict[str, Finding] = {
    "spacing": SPACING,
    "stain": STAIN,
    "landmark": _landmark(Phrase("haemorrhage", "出血"), Phrase("no haemorrhage", "无出血")),
}
GROSS: dict[str, Finding] = {
    "backdrop": {
        "blue": Phrase("blue cloth", "蓝色衬布"),
        "green": Phrase("green cloth", "绿色衬布"),
        "grey": Phrase("grey tray", "灰色托盘"),
        "white": Phrase("white board", "白色底板"),
    },
    "ruler": {"none": Phrase("no ruler", "无标尺"), "below": Phrase("ruler below", "下方有标尺")},
    "landmark": _landmark(Phrase("blood spot", "血迹"), Phrase("no blood spot", "无血迹")),
}
LYMPHOMA: dict[str, Finding] = {
    "spacing": SPACING,
    "stain": {
        "pale": Phrase("pale counterstain", "复染浅"),
        "deep": Phrase("deep counterstain", "复染深"),
    },
    "landmark": _landmark(Phrase("open vessel", "血管腔"), Phrase("no vessel", "无血管")),
}
SMEAR: dict[str, Finding] = {
    "number": {
        "few": Phrase("few cells", "细胞少"),
        "many": Phrase("many cells", "细胞多"),
    },
    "background": {
        "clean": Phrase("clean background", "背景干净"),
        "bloody": Phrase("bloody background", "背景血性"),
    },
    "landmark": _landmark(Phrase("neutrophils", "中性粒细胞"), Phrase("no neutrophils", "无中性粒细胞")),
}
HYBRIDISATION: dict[str, Finding] = {
    "number": {
        "two": Phrase("two nuclei", "两个细胞核"),
        "three": Phrase("three nuclei", "三个细胞核"),
        "four": Phrase("four nuclei", "四个细胞核"),
    },
    "stain": {"dim": Phrase("dim DAPI", "DAPI弱"), "bright": Phrase("bright DAPI", "DAPI强")},
    "landmark": _landmark(Phrase("green haze", "绿色荧光雾"), Phrase("no haze", "无荧光雾")),
}

H_AND_E = Phrase("H&E section", "HE切片")
SPECIMEN_PHOTO = Phrase("gross specimen", "大体标本")
CD20 = Phrase("CD20 immunostain", "CD20免疫组化")
PAP = Phrase("Pap smear", "巴氏涂片")
FISH = Phrase("HER2 FISH", "HER2荧光原位杂交")

DIAGNOSES: tuple[Diagnosis, ...] = (
    Diagnosis(
        "tubular_adenoma",
        Phrase("tubular adenoma", "管状腺瘤"),
        "histopathology",
        H_AND_E,
        {
            "size": {
                "small": Phrase("small round glands", "小圆形腺体"),
                "large": Phrase("large round glands", "大圆形腺体"),
            }
        }
        | ADENOMA,
    ),
    Diagnosis(
        "villous_adenoma",
        Phrase("villous adenoma", "绒毛状腺瘤"),
        "histopathology",
        H_AND_E,
        {
            "size": {
                "small": Phrase("narrow long villi", "细长绒毛"),
                "large": Phrase("broad long villi", "宽长绒毛"),
            }
        }
        | ADENOMA,
    ),
    Diagnosis(
        "lipoma",
        Phrase("lipoma", "脂肪瘤"),
        "gross examination",
        SPECIMEN_PHOTO,
        {
            "size": {
                "small": Phrase("small lobulated yellow mass", "小分叶状黄色肿物"),
                "large": Phrase("large lobulated yellow mass", "大分叶状黄色肿物"),
            }
        }
        | GROSS,
    ),
    Diagnosis(
        "melanoma",
        Phrase("melanoma", "黑色素瘤"),
        "gross examination",
        SPECIMEN_PHOTO,
        {
            "size": {
                "small": Phrase("small black lesion on skin", "皮肤小黑色病变"),
                "large": Phrase("large black lesion on skin", "皮肤大黑色病变"),
            }
        }
        | GROSS,
    ),
    Diagnosis(
        "b_cell_lymphoma",
        Phrase("B-cell lymphoma", "B细胞淋巴瘤"),
        "immunohistochemistry",
        CD20,
        {
            "size": {
                "small": Phrase("small cells with brown membranes", "小细胞胞膜棕色阳性"),
                "large": Phrase("large cells with brown membranes", "大细胞胞膜棕色阳性"),
            }
        }
        | LYMPHOMA,
    ),
    Diagnosis(
        "t_cell_lymphoma",
        Phrase("T-cell lymphoma", "T细胞淋巴瘤"),
        "immunohistochemistry",
        CD20,
        {
            "size": {
                "small": Phrase("small blue cells without brown", "小细胞蓝色阴性"),
                "large": Phrase("large blue cells without brown", "大细胞蓝色阴性"),
            }
        }
        | LYMPHOMA,
    ),
    Diagnosis(
        "hsil",
        Phrase("high-grade squamous intraepithelial lesion", "高级别鳞状上皮内病变"),
        "cytology",
        PAP,
        {
            "colour": {
                "pink": Phrase("large dark nuclei in scant pink cytoplasm", "核大深染、少量粉色胞质"),
                "blue": Phrase("large dark nuclei in scant blue cytoplasm", "核大深染、少量蓝色胞质"),
            }
        }
        | SMEAR,
    ),
    Diagnosis(
        "normal_squamous_epithelium",
        Phrase("normal squamous epithelium", "正常鳞状上皮"),
        "cytology",
        PAP,
        {
            "colour": {
                "pink": Phrase("tiny nuclei in broad pink cytoplasm", "核小、宽阔粉色胞质"),
                "blue": Phrase("tiny nuclei in broad blue cytoplasm", "核小、宽阔蓝色胞质"),
            }
        }
        | SMEAR,
    ),
    Diagnosis(
        "her2_amplified",
        Phrase("HER2-amplified breast carcinoma", "HER2扩增型乳腺癌"),
        "FISH",
        FISH,
        {
            "size": {
                "small": Phrase("many red signals in small nuclei", "小核内大量红色信号"),
                "large": Phrase("many red signals in large nuclei", "大核内大量红色信号"),
            }
        }
        | HYBRIDISATION,
    ),
    Diagnosis(
        "her2_not_amplified",
        Phrase("HER2-negative breast carcinoma", "HER2阴性乳腺癌"),
        "FISH",
        FISH,
        {
            "size": {
                "small": Phrase("two red signals in small nuclei", "小核内两个红色信号"),
                "large": Phrase("two red signals in large nuclei", "大核内两个红色信号"),
            }
        }
        | HYBRIDISATION,
    ),
)


def draw_specimen(rng: np.random.Generator, diagnosis: Diagnosis) -> Specimen:
    """Draws each finding of a diagnosis uniformly and independently of the others."""
    return Specimen(
        diagnosis,
        {name: list(values)[rng.integers(len(values))] for name, values in diagnosis.findings.items()},
    )


def finding_phrases(specimen: Specimen, language: Language) -> list[str]:
    """Returns the phrases for a specimen's findings, the telling one first."""
    findings = specimen.diagnosis.findings
    return [findings[name][value].text(language) for name, value in specimen.findings.items()]


def joined_findings(specimen: Specimen, language: Language, num_findings: int | None = None) -> str:
    """Joins the first `num_findings` of a specimen's findings, or all, into one phrase."""
    phrases = finding_phrases(specimen, language)[:num_findings]
    if language == "zh" or len(phrases) == 1:
        return "，".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def caption(specimen: Specimen, rng: np.random.Generator) -> str:
    """Writes an English caption of at most 25 words that names diagnosis and every finding, in one of four orders."""
    name, preparation = specimen.diagnosis.name.en, specimen.diagnosis.preparation.en
    findings = joined_findings(specimen, "en")
    return (
        f"{capitalised(name)} with {findings}.",
        f"{capitalised(preparation)}: {name}, {findings}.",
        f"{capitalised(findings)}: {name}.",
        f"{capitalised(preparation)} of {name}. {capitalised(findings)}.",
    )[rng.integers(4)]


def capitalised(text: str) -> str:
    """Returns `text` with an upper-case first letter and the rest unchanged.

    >>> capitalised("two HER2 signals")
    'Two HER2 signals'
    """
    return text[:1].upper() + text[1:]
