"""Generates the books' words: titles, parts of captions, and sentences, in English and Chinese."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np

Language = Literal["en", "zh"]
T = TypeVar("T")

_DISEASES = {
    "en": (
        "Fibroadenoma", "Pleomorphic adenoma", "Schwannoma", "Papillary carcinoma", "Chronic hepatitis B",
        "Squamous cell carcinoma", "Leiomyoma", "Hashimoto thyroiditis", "Crohn disease",
        "Type II pneumocyte hyperplasia",
        "Osteosarcoma", "Membranous nephropathy", "Diffuse large B-cell lymphoma", "Seborrhoeic keratosis",
        "Gastrointestinal stromal tumour", "Endometrial hyperplasia", "Sarcoidosis", "Medullary carcinoma",
    ),
    "zh": (
        "纤维腺瘤", "多形性腺瘤", "神经鞘瘤", "乳头状癌", "慢性乙型肝炎", "鳞状细胞癌", "平滑肌瘤",
        "桥本甲状腺炎",
        "克罗恩病", "骨肉瘤", "膜性肾病", "弥漫大B细胞淋巴瘤", "脂溢性角化病", "胃肠道间质瘤",
        "子宫内膜增生",
        "结节病", "髓样癌", "硬化性腺病",
    ),
}  # fmt: skip
_SITES = {
    "en": ("of the breast", "of the thyroid", "of the liver", "of the kidney", "of the colon",
           "of the lung", "of the skin",
           "of the left parotid gland", "in a 54-year-old man", "of the stomach", ""),
    "zh": ("乳腺", "甲状腺", "肝脏", "肾脏", "结肠", "肺", "皮肤", "左侧腮腺", "胃",
           "老年男性", ""),
}  # fmt: skip
_QUALITIES = {
    "en": ("Narrow", "Dilated", "Branching", "Small round", "Large pleomorphic", "Pale", "Densely packed", "Scattered",
           "Atypical", "Elongated", "Irregular", "Compressed", "Well-formed"),
    "zh": ("狭窄的", "扩张的", "分支状", "小圆形", "大小不一的", "淡染的", "密集的", "散在的",
           "异型的", "梭形", "不规则的",
           "受压的", "分化良好的"),
}  # fmt: skip
_STRUCTURES = {
    "en": ("ducts", "glands", "tumour cells", "spindle cells", "nests", "papillae", "vessels",
           "lymphocytes", "trabeculae",
           "acini", "foamy macrophages", "giant cells", "follicles", "crypts"),
    "zh": ("导管", "腺体", "瘤细胞", "梭形细胞", "细胞巢", "乳头", "血管", "淋巴细胞",
           "骨小梁", "腺泡", "泡沫细胞",
           "多核巨细胞", "滤泡", "隐窝"),
}  # fmt: skip
_FEATURES = {
    "en": ("with central necrosis", "in a myxoid stroma", "lined by flattened epithelium", "surrounded by fibrosis",
           "with prominent nucleoli", "at low magnification", "with frequent mitoses", "infiltrating adipose tissue",
           "strongly positive for CD20", "with membranous staining for HER2", "(HE, ×200)", "(H&E, x100)",
           "showing vitamin A storage", "on the cut surface", "with calcification (arrow)", "of phenotype B"),
    "zh": ("伴中央坏死", "间质黏液变", "被覆扁平上皮", "周围纤维化", "核仁明显", "（低倍）",
           "核分裂象易见", "浸润脂肪组织",
           "CD20强阳性", "HER2膜阳性", "（HE×200）", "HE ×100", "切面观",
           "伴钙化（箭头）", "间质淋巴细胞浸润", "呈B型表现"),
}  # fmt: skip
_SENTENCES = {
    "en": (
        "The lesion is well circumscribed and grows slowly over {n} years.",
        "{q} {s} are found {f2}, and the stroma is oedematous.",
        "Most patients are older than {n} years and present with a painless mass.",
        "Recurrence is rare after complete excision, but follow-up is advised.",
        "Immunohistochemistry for S-100, CD34 and p63 helps in difficult cases.",
        "The differential diagnosis includes {d} and {d2}, which lack these changes.",
        "Mutations of KRAS occur in about {n}% of cases, e.g. in those with mucinous differentiation.",
        "Grossly, the cut surface is grey-white, firm and lobulated.",
        "Necrosis and haemorrhage suggest a higher grade, as listed in Table {t}.",
        "Smith et al. reported {n} cases with a median survival of {t}.5 years.",
        "{q} {s} may be mistaken for metastasis, particularly in small biopsies.",
        "The patient was treated with surgery and vs. historical controls did well.",
    ),
    "zh": (
        "本病多见于中年女性，平均年龄{n}岁，肿物界限清楚，生长缓慢。",
        "镜下见{q}{s}，间质水肿，可见少量炎症细胞浸润。",
        "完整切除后很少复发，但应定期随访。",
        "免疫组织化学染色S-100、CD34及p63有助于诊断。",
        "需与{d}及{d2}鉴别，后者缺乏上述改变。",
        "约{n}%的病例存在KRAS基因突变，预后较差。",
        "大体检查：肿物切面灰白色，质韧，呈分叶状。",
        "坏死和出血提示级别较高（表{t}）。",
        "{q}{s}易误诊为转移癌，小活检标本尤其如此。",
        "临床表现为无痛性肿块，病程可达{t}年。",
    ),
}  # fmt: skip
_REFERENCES = {
    "en": (
        "{q} {s} are seen {f2} ({m}).", "{q} {s} predominate ({m}), whereas mitoses are rare.", "{M} shows {s} {f2}.",
        "As illustrated in {m}, the {s} are arranged in groups.", "On microscopy the {s} stand out (see {m}).",
        "The {s} are conspicuous ({m}) and their number varies.", "{M} demonstrates this pattern in a typical case.",
    ),
    "zh": (
        "镜下见{q}{s}（{m}）。", "如{m}所示，{s}呈巢状排列。", "{s}增生明显（{m}），间质水肿。",
        "{m}显示{q}{s}。",
        "部分区域可见{q}{s}，核分裂象少见（见{m}）。",
        "切面可见{s}，与周围组织分界清楚({m})。",
    ),
}  # fmt: skip
_HEADINGS = {
    "en": ("Clinical features", "Morphology", "Differential diagnosis", "Prognosis",
           "Pathogenesis", "Histologic variants"),
    "zh": ("临床特点", "病理改变", "鉴别诊断", "预后", "发病机制", "组织学亚型"),
}  # fmt: skip


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Picks one of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def title(rng: np.random.Generator, language: Language) -> str:
    """Picks a figure's title: a disease and mostly its site."""
    disease, site = pick(rng, _DISEASES[language]), pick(rng, _SITES[language])
    return f"{disease} {site}".strip() if language == "en" else site + disease


def part(rng: np.random.Generator, language: Language) -> str:
    """Picks a panel's description."""
    words = (pick(rng, _QUALITIES[language]), pick(rng, _STRUCTURES[language]), pick(rng, _FEATURES[language]))
    return (
        " ".join(words) if language == "en" else words[0] + words[1] + ("" if words[2][0] in "（(" else "，") + words[2]
    )


def heading(rng: np.random.Generator, language: Language) -> str:
    """Picks a heading of the body."""
    return pick(rng, _HEADINGS[language])


def sentence(rng: np.random.Generator, language: Language) -> str:
    """Picks a sentence of the body that refers to no figure."""
    return _filled(rng, language, pick(rng, _SENTENCES[language]), "")


def reference(rng: np.random.Generator, language: Language, mention: str) -> str:
    """Picks a sentence that refers to a figure by `mention`."""
    return _filled(rng, language, pick(rng, _REFERENCES[language]), mention)


def _filled(rng: np.random.Generator, language: Language, template: str, mention: str) -> str:
    features = [feature for feature in _FEATURES[language] if feature[0] not in "（("]
    return template.format(
        q=pick(rng, _QUALITIES[language]),
        s=pick(rng, _STRUCTURES[language]),
        f2=pick(rng, features),
        d=pick(rng, _DISEASES[language]).lower(),
        d2=pick(rng, _DISEASES[language]).lower(),
        n=rng.integers(12, 80),
        t=rng.integers(1, 9),
        m=mention,
        M=mention[:1].upper() + mention[1:],
    )
