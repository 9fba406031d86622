"""Texts of the books: chapter names, sentences of body text and templates of sentences that refer to figures."""

from __future__ import annotations

from dataclasses import dataclass

from components.data_processing.teaching_atlas.specimens import Language, Phrase


@dataclass(frozen=True)
class Chapter:
    """One subfield as a chapter: its name and the title of figures that set its two diagnoses side by side."""

    subfield: str
    name: Phrase
    comparison: Phrase


CHAPTERS: tuple[Chapter, ...] = (
    Chapter(
        "histopathology",
        Phrase("Polyps of the large bowel", "大肠息肉"),
        Phrase("Polyps under the microscope", "大肠息肉镜下表现"),
    ),
    Chapter(
        "gross examination",
        Phrase("Lumps of skin and fat", "皮肤与脂肪肿物"),
        Phrase("Excised lumps", "切除肿物大体观"),
    ),
    Chapter(
        "immunohistochemistry",
        Phrase("Lymph node tumours", "淋巴结肿瘤"),
        Phrase("Lymph nodes stained for CD20", "淋巴结CD20染色"),
    ),
    Chapter(
        "cytology",
        Phrase("The cervical smear", "宫颈涂片"),
        Phrase("Cells of the cervix", "宫颈细胞"),
    ),
    Chapter(
        "FISH",
        Phrase("Gene signals in breast tumours", "乳腺肿瘤基因信号"),
        Phrase("Signals of the HER2 gene", "HER2基因信号"),
    ),
)

OTHER_TECHNIQUES = Phrase("Other techniques", "其他技术")

FACTS: dict[str, dict[Language, tuple[str, ...]]] = {
    "histopathology": {
        "en": (
            "Most polyps of the large bowel cause no symptoms and are found at endoscopy.",
            "The shape of the glands decides the type, and the grade is given separately.",
            "A polyp should be cut through its stalk, so that the margin can be judged.",
            "The risk of cancer rises with the size of the polyp and with the share of villi.",
            "Bleeding into the stroma is common after a polyp has been pulled with a snare.",
            "Deeply stained nuclei crowd at the base of the epithelium.",
            "Pale sections are often too thin or were left too short in the dye.",
        ),
        "zh": (
            "大多数大肠息肉没有症状，常在内镜检查时发现。",
            "腺体的形状决定类型，分级另行说明。",
            "取材时应沿蒂部纵切，以便判断切缘。",
            "息肉越大、绒毛成分越多，癌变的危险越高。",
            "圈套切除后间质出血较为常见。",
            "深染的细胞核聚集于上皮基底部。",
            "切片过薄或染色时间不足均可造成淡染。",
        ),
    },
    "gross examination": {
        "en": (
            "A specimen should be seen whole before it is cut, and its size written down.",
            "A ruler in the picture spares the reader a guess.",
            "Colour is best judged on a plain cloth and in daylight.",
            "Fat is soft and greasy, and it floats in the fixative.",
            "A dark patch of skin with an uneven border must be removed with a margin.",
            "Blood on the cloth should be wiped away before the picture is taken.",
            "The cut surface is described from the outside to the centre.",
        ),
        "zh": (
            "切开之前应先观察标本全貌，并记录大小。",
            "照片中放置标尺可以避免读者猜测。",
            "在素色衬布和自然光下最容易判断颜色。",
            "脂肪组织质软、油腻，在固定液中漂浮。",
            "边缘不规则的深色皮肤病变应连同周围皮肤一并切除。",
            "拍照前应擦净衬布上的血迹。",
            "切面应由外向内依次描述。",
        ),
    },
    "immunohistochemistry": {
        "en": (
            "The brown colour marks the place where the antibody has bound.",
            "A blue dye stains all nuclei and shows the cells that carry no antigen.",
            "A section without any brown is only negative if the control has worked.",
            "Membrane staining forms a closed ring around the cell.",
            "A strong counterstain can hide a weak reaction.",
            "Vessels in the section serve as a landmark when two stains are compared.",
            "The spacing of the cells depends on fixation as well as on the disease.",
        ),
        "zh": (
            "棕色表示抗体结合的部位。",
            "蓝色染料显示所有细胞核，包括不含抗原的细胞。",
            "只有对照成立时，没有棕色的切片才能判为阴性。",
            "胞膜着色表现为围绕细胞的完整环形。",
            "复染过深会掩盖弱阳性反应。",
            "比较两种染色时，血管可以作为定位标志。",
            "细胞间距既与疾病有关，也与固定有关。",
        ),
    },
    "cytology": {
        "en": (
            "The ratio of nucleus to cytoplasm is the first thing to look at.",
            "Mature cells are wide and thin, and their nuclei are small and dark.",
            "Pink and blue cytoplasm may lie side by side in one smear.",
            "Blood and inflammation make a smear harder to read.",
            "A smear with few cells should be taken again.",
            "An abnormal smear is followed by a look through the colposcope.",
            "Neutrophils gather in clumps when the mucosa is inflamed.",
        ),
        "zh": (
            "首先应观察核质比。",
            "成熟细胞宽而薄，核小而深染。",
            "同一涂片中粉色与蓝色胞质可以并存。",
            "血液和炎症会增加阅片难度。",
            "细胞过少的涂片应重新取材。",
            "涂片异常者应进一步行阴道镜检查。",
            "黏膜炎症时中性粒细胞聚集成团。",
        ),
    },
    "FISH": {
        "en": (
            "The red probe binds the gene and the green probe the centre of the chromosome.",
            "At least twenty nuclei should be counted by two readers.",
            "Overlapping nuclei are left out of the count.",
            "A ratio of two or more means that the gene is amplified.",
            "The blue dye shows the border of each nucleus.",
            "A green haze in the field comes from tissue that glows by itself.",
            "Dim nuclei may have been digested for too long.",
        ),
        "zh": (
            "红色探针结合基因，绿色探针结合染色体着丝粒。",
            "应由两人至少计数二十个细胞核。",
            "重叠的细胞核不计数。",
            "比值不低于二表示基因扩增。",
            "蓝色染料显示细胞核的边界。",
            "视野中的绿色荧光雾来自组织自发荧光。",
            "消化时间过长会使细胞核变暗。",
        ),
    },
}

GENERAL_FACTS: dict[Language, tuple[str, ...]] = {
    "en": (
        "The history of the patient belongs on the request form.",
        "Two doctors should agree before a rare diagnosis is given.",
        "The report names the specimen, the method and the finding, in this order.",
        "A good picture shows one thing and leaves out the rest.",
        "Old slides fade, so the picture in the file may be the better record.",
        "The reader should first describe what is seen and only then name it.",
        "Sampling errors are more frequent than errors of judgement.",
        "If the finding and the history do not fit, the material is looked at again.",
        "Every laboratory keeps a set of known cases for comparison.",
        "The block is kept for many years, so that new methods can be tried on it.",
        "A change of fixative changes the look of every section that follows.",
        "Low power comes first, because the pattern matters more than the single cell.",
        "The border of a lesion tells as much as its centre.",
        "Numbers should be given with the method by which they were counted.",
        "An empty field is no proof that the disease is absent.",
        "Whoever takes the picture should note the lens and the stain.",
        "A second stain is ordered for a question, never out of habit.",
        "The surgeon wants to know the type, the extent and the margin.",
    ),
    "zh": (
        "申请单上应写明患者病史。",
        "罕见诊断应由两位医师共同确认。",
        "报告依次写明标本、方法和所见。",
        "好的图片只突出一个要点。",
        "旧切片会褪色，档案中的图片往往更可靠。",
        "阅片时应先描述所见，再作出命名。",
        "取材误差比判断误差更为常见。",
        "所见与病史不符时，应重新检查材料。",
        "每个实验室都应保存一套已知病例以供比较。",
        "蜡块应长期保存，以便日后使用新方法。",
        "更换固定液会改变此后每一张切片的外观。",
        "应先用低倍镜观察，整体结构比单个细胞更重要。",
        "病变的边界与中心同样能提供信息。",
        "给出数值时应说明计数方法。",
        "某一视野阴性不能排除疾病。",
        "拍摄者应记录物镜倍数与染色方法。",
        "加做染色应针对具体问题，不应成为习惯。",
        "外科医师需要知道类型、范围和切缘。",
    ),
}

PANEL_REFERENCES: dict[Language, tuple[str, ...]] = {
    "en": (
        "In {name}, one may find {finding} ({reference}).",
        "A typical field of {name} shows {finding} ({reference}).",
        "As {reference} shows, {finding} can point to {name}.",
    ),
    "zh": (
        "{name}可见{finding}({reference})。",
        "典型的{name}表现为{finding}({reference})。",
        "如{reference}所示，{finding}提示{name}。",
    ),
}
FIGURE_REFERENCES: dict[Language, tuple[str, ...]] = {
    "en": ("The main findings are put together in {reference}.", "Compare these findings with {reference}."),
    "zh": ("主要表现见{reference}。", "以上所见可与{reference}对照。"),
}

TABLE_TITLE = Phrase("Points that help to tell them apart", "鉴别要点")
TABLE_HEADINGS: dict[Language, tuple[str, str, str]] = {
    "en": ("Feature", "First", "Second"),
    "zh": ("项目", "前者", "后者"),
}
TABLE_ROWS: dict[Language, tuple[tuple[str, str, str], ...]] = {
    "en": (
        ("Usual age", "over 50", "over 60"),
        ("Growth", "slow", "faster"),
        ("Recurrence", "rare", "possible"),
        ("Follow-up", "3 years", "1 year"),
    ),
    "zh": (
        ("好发年龄", "50岁以上", "60岁以上"),
        ("生长速度", "缓慢", "较快"),
        ("复发", "少见", "可有"),
        ("随访", "3年", "1年"),
    ),
}
CHART_TITLE = Phrase("Cases per year", "每年病例数")
QR_CAPTION = Phrase("More images", "更多图片")
