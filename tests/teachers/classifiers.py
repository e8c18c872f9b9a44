"""Small random classifiers of transformers, in folders."""

import torch
import transformers

SIDE = 32
LABELS = ("ant", "bee", "cat", "dog", "eel")
VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
VIT |= {"image_size": SIDE, "patch_size": 8}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
# The classifier, its configuration, and its image processor.
FORMS = {
    "vit": ("ViTForImageClassification", VIT, "ViTImageProcessor", {"size": {"height": SIDE, "width": SIDE}}),
    "deit": (
        "DeiTForImageClassificationWithTeacher",
        VIT,
        "DeiTImageProcessor",
        {"size": {"height": 36, "width": 36}, "crop_size": {"height": SIDE, "width": SIDE}},
    ),
    "resnet": ("ResNetForImageClassification", RESNET, "ConvNextImageProcessor", {"size": {"shortest_edge": SIDE}}),
    "convnext": (
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": SIDE}, "crop_pct": 0.95, "image_mean": [0.4, 0.5, 0.6]},
    ),
}


def save(folder, form="vit", labels=LABELS, **settings):
    """A random classifier's folder, and the classifier and the image processor."""
    kind, config, processor, processor_settings = FORMS[form]
    classifier = getattr(transformers, kind)
    id2label = {"id2label": dict(enumerate(labels))} if labels else {"num_labels": 5}
    torch.manual_seed(0)
    model = classifier(classifier.config_class(**config, **id2label, **settings)).eval()
    model.save_pretrained(folder)
    processor = getattr(transformers, processor)(**processor_settings)
    processor.save_pretrained(folder)
    return model, processor
