"""The certificate against real models: PLD's gradient error and its bound, for docs/gradient_error_bound.md.

make certificate PHOTOS='photos-{0000..0003}.tar'
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pld.images import Source, open_source
from pld.losses import gradient_error_bound, pld_loss
from pld.provenance import provenance
from pld.signals import TopK
from pld.store import CodecIdentity
from pld.store.format.quantise import dequantise, quantise
from pld.store.read.averaging import average
from pld.teachers import Teacher, build_teacher, view_logits
from pld.views import Fixed

KS = (10, 20, 50)
TAILS = ("drop", "uniform")
DOCUMENT = Path(__file__).parents[1] / "docs" / "gradient_error_bound.md"
_BEGIN, _END = "<!-- made by `make certificate` -->\n", "<!-- end -->\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Bound and measured L1 error of the gradient, [N] each, for one way to keep the teacher."""

    k: int
    rounded: bool
    tail: str
    bound: Tensor
    measured: Tensor


def compare(student: Tensor, teachers: Sequence[Tensor], labels: Tensor, ks: Sequence[int] = KS) -> list[Comparison]:
    """PLD's gradient at T = 1 from each truncation against that from the dense teacher, in float64.

    Args:
        student: logits [N, C].
        teachers: one teacher's logits [N, C], or several teachers', which are averaged.
        labels: int64 [N].
        ks: classes to keep.

    Raises:
        AssertionError: a sample's error is above its bound.
    """
    student, num_classes = student.double(), student.shape[1]
    dense = torch.stack([logits.double().softmax(dim=1) for logits in teachers]).mean(dim=0).log()
    exact = _gradient(student, dense, labels, "drop")
    found = []
    for k in ks:
        plain = [TopK.from_logits(logits.double(), labels, k) for logits in teachers]
        for rounded in (False, True):
            topks = [_as_a_store_holds_it(topk, num_classes) for topk in plain] if rounded else plain
            topk = topks[0] if len(topks) == 1 else average(topks, num_classes)
            for tail in TAILS:
                measured = (_gradient(student, topk, labels, tail) - exact).abs().sum(dim=1)
                bound = gradient_error_bound(topk, tail=tail).double()
                # What rounding of the arithmetic itself may add where there is nothing else.
                assert bool((measured <= bound + 1e-6).all()), (k, rounded, tail, float((measured - bound).max()))
                found.append(Comparison(k=k, rounded=rounded, tail=tail, bound=bound, measured=measured))
    return found


def _as_a_store_holds_it(topk: TopK, num_classes: int) -> TopK:
    codec = CodecIdentity(k=topk.k, temperatures=topk.temperatures)
    return dequantise(quantise(topk, codec, num_classes), topk.labels.numpy(), codec)


def _gradient(student: Tensor, teacher: TopK | Tensor, labels: Tensor, tail: str) -> Tensor:
    leaf = student.clone().requires_grad_()
    loss = pld_loss(leaf, teacher, labels, tail=tail, reduction="none").sum()
    return torch.autograd.grad(loss, leaf)[0]


def as_markdown(found: Sequence[Comparison]) -> str:
    """A table, a row for each comparison."""
    lines = [
        "| k | log-probabilities | tail | bound: mean | 95 % | max | measured: mean | 95 % | max | share: mean | max |",
        "|---" * 11 + "|",
    ]
    for row in found:
        summaries = [x for v in (row.bound, row.measured) for x in (v.mean(), v.quantile(0.95), v.max())]
        figures = [f"{float(x):.4f}" for x in summaries]
        share = (row.measured / row.bound).nan_to_num()
        shares = [f"{100 * x:.0f} %" for x in (float(share.mean()), float(share.max()))]
        held = "rounded, as in a store" if row.rounded else "exact"
        lines.append("| " + " | ".join([str(row.k), held, row.tail, *figures, *shares]) + " |")
    return "\n".join(lines) + "\n"


def write_section(document: Path, text: str) -> None:
    """Replace what is between the document's two marks."""
    before, _, rest = document.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert end, f"{document}: wanted the lines {_BEGIN!r} and {_END!r} in it"
    document.write_text(f"{before}{_BEGIN}{text}\n{_END}{after}")


def report(source: Source, student: Teacher, teacher: Teacher) -> str:
    """A table with what it was made of: for the teacher at the student's size of view, and at its own."""
    labels, seen = torch.from_numpy(source.labels), view_logits(student, source, range(len(source)), 0, Fixed())
    text = (
        f"{len(source)} ImageNet photos, one centre view each; student {_described(student, seen, labels)}; T = 1.\n"
        "L1 norm of the error of the gradient with respect to the student's logits, per sample, in float64; every\n"
        f"sample's is asserted to be within its bound. {provenance()['machine']}, torch {torch.__version__}.\n"
    )
    for size in (student.preprocessing.input_size, teacher.preprocessing.input_size):
        preprocessing = dataclasses.replace(teacher.preprocessing, input_size=size)
        resized = dataclasses.replace(teacher, preprocessing=preprocessing)
        logits = view_logits(resized, source, range(len(source)), 0, Fixed())
        text += f"\nTeacher {_described(resized, logits, labels)}:\n\n{as_markdown(compare(seen, [logits], labels))}"
        if size == student.preprocessing.input_size:
            both = as_markdown(compare(seen, [logits, seen], labels))
            text += f"\nThe average of this teacher and of the student's own model:\n\n{both}"
    return text


def _described(model: Teacher, logits: Tensor, labels: Tensor) -> str:
    height, width = model.preprocessing.input_size
    right = float((logits.argmax(dim=1) == labels).float().mean())
    certainty = float(logits.softmax(dim=1).amax(dim=1).mean())
    return f"{model.architecture} at {height} x {width} ({100 * right:.1f} % right, mean confidence {certainty:.2f})"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="tar shards of photos with ImageNet's labels, a quoted brace pattern")
    for role, model in (("student", "tf_efficientnet_lite0"), ("teacher", "tf_efficientnet_lite2")):
        parser.add_argument(f"--{role}", default=model, help=f"timm's name (default: {model})")
        parser.add_argument(f"--{role}-weights", required=True, help="a .safetensors or .pth file")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    arguments = parser.parse_args()
    student = build_teacher(arguments.student, arguments.student_weights)
    teacher = build_teacher(arguments.teacher, arguments.teacher_weights)
    text = report(open_source(arguments.photos), student, teacher)
    print(text)
    if arguments.write:
        write_section(DOCUMENT, text)


if __name__ == "__main__":
    main()
