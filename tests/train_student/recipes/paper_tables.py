"""The paper's tables (arXiv:2506.12542), typed in a second time, without the generator's words for them."""

METHODS = ("kd", "dist", "pld")

# Student and teacher as recipes are named, then top-1 of KD, DIST and PLD.
PAIRS = """
vit_small_vit_large                    75.33 74.91 75.63
resnet50_resnet152                     76.80 76.60 77.30
mnv4_hybrid_medium_mnv4_conv_large     75.47 75.98 76.33
mnv4_conv_medium_mnv4_conv_large       74.86 75.40 75.72
mnv4_conv_small_mnv4_conv_large        67.38 70.05 70.07
resnet50_mnv4_hybrid_medium            76.85 77.00 77.34
resnet50_mnv4_conv_large               73.98 75.05 75.53
resnet50_vit_base                      74.27 75.40 75.80
resnet50_vit_large                     75.98 76.86 77.38
mnv4_conv_small_mnv4_hybrid_large      68.46 70.41 71.16
"""
LONG = (76.14, 76.56, 76.94)
KD_BY_ALPHA = (75.92, 76.80, 76.65, 76.30, 76.33, 76.12, 75.94, 75.85, 75.21, 74.28)
DIST_BY_ALPHA = (76.47, 76.60, 75.69, 74.88, 73.90, 72.94, 72.71, 71.85, 71.89, 71.40)
PLD_BY_TEMPERATURE = {0.5: 76.06, 1: 77.30, 1.5: 77.17, 2: 76.46, 4: 75.22}
OPTIMIZERS = {
    "adabelief": (68.92, 69.91, 70.80),
    "adamw": (68.89, 69.94, 70.85),
    "adan": (68.52, 70.07, 70.82),
}
LABELS_ALONE = {
    "resnet50_ce": 71.35,
    "resnet50_ls": 73.92,
    "mnv4_conv_medium_ce": 72.37,
    "mnv4_conv_medium_ce_300epochs": 73.04,
}
OTHERS = {
    "resnet50_resnet152_listmle": 74.11,
    "resnet50_resnet152_plistmle": 76.60,
    "mnv4_conv_small_mnv4_hybrid_large_kd_standardized": 69.14,
    "mnv4_conv_small_mnv4_hybrid_large_dist_standardized": 71.12,
    "mnv4_conv_small_mnv4_hybrid_large_pld_standardized": 70.66,
    "mnv4_conv_small_mnv4_hybrid_large_pld_standardized_teacher": 70.81,
    "mnv4_conv_small_mnv4_hybrid_large_rkl": 67.44,
    "mnv4_conv_small_mnv4_hybrid_large_js": 69.83,
}
TOP5 = {"resnet50_resnet152_pld": 93.28, "resnet50_resnet152_listmle": 90.60, "resnet50_resnet152_plistmle": 93.23}

# timm's name and, from its model cards, the parameters with 1000 classes, in millions.
STUDENTS = {
    "resnet50": ("resnet50", 25.6),
    "vit_small": ("vit_small_patch16_224", 22.1),
    "mnv4_hybrid_medium": ("mobilenetv4_hybrid_medium", 11.1),
    "mnv4_conv_medium": ("mobilenetv4_conv_medium", 9.7),
    "mnv4_conv_small": ("mobilenetv4_conv_small", 3.8),
}


def figures() -> dict[str, float]:
    """Top-1 in percent by recipe."""
    found = dict(LABELS_ALONE)
    for line in PAIRS.strip().splitlines():
        pair, *top1 = line.split()
        found |= {f"{pair}_{method}": float(x) for method, x in zip(METHODS, top1, strict=True)}
    found |= {f"mnv4_conv_medium_mnv4_conv_large_{m}_300epochs": x for m, x in zip(METHODS, LONG, strict=True)}
    for method, row in (("kd", KD_BY_ALPHA), ("dist", DIST_BY_ALPHA)):
        suffixes = ["_alpha0", "", *(f"_alpha0.{tenths}" for tenths in range(2, 10))]
        found |= {f"resnet50_resnet152_{method}{end}": x for end, x in zip(suffixes, row, strict=True)}
    for temperature, top1 in PLD_BY_TEMPERATURE.items():
        found[f"resnet50_resnet152_pld{'' if temperature == 1 else f'_t{temperature}'}"] = top1
    for opt, row in OPTIMIZERS.items():
        found |= {f"mnv4_conv_small_mnv4_hybrid_large_{m}_{opt}": x for m, x in zip(METHODS, row, strict=True)}
    return {**found, **OTHERS}
