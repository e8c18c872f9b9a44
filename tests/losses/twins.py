"""The losses again, slowly: float64, one sample and one class at a time, straight from the formulas.

Each takes one sample's student and teacher logits over all C classes and its label (None where it has none), and
returns a float64 scalar that autograd can differentiate. Nothing here shares code with `pld.losses`.
"""

import math

import torch


def order_of(teacher, label):
    """The label, then the classes by falling teacher logit, the lower class first among equals."""
    rest = [c for c in range(len(teacher)) if c != label]
    first = [] if label is None else [label]
    return [*first, *sorted(rest, key=lambda c: (-float(teacher[c]), c))]


def plackett_luce(student, order, weights):
    """Terms for the classes in `order`; the others stay in every denominator."""
    placed = torch.zeros(len(student), dtype=torch.bool)
    total = student.new_zeros(())
    for c, weight in zip(order, weights, strict=True):
        total = total + weight * (student[~placed].logsumexp(0) - student[c])
        placed[c] = True
    return total


def others(classes, num):
    """The classes of 0..num-1 that are not among these."""
    held = set(classes)
    return [c for c in range(num) if c not in held]


def kept(teacher, label, k):
    """The k most probable classes and the label, in the order of the loss."""
    held = {*sorted(range(len(teacher)), key=lambda c: (-float(teacher[c]), c))[:k], label}
    return [c for c in order_of(teacher, label) if c in held]


def pld(student, teacher, label, k, temperature=1.0, tail="drop"):
    q = (teacher.log_softmax(0) / temperature).softmax(0)
    order = kept(teacher, label, k)
    loss = plackett_luce(student, order, [float(q[c]) for c in order])
    rest = others(order, len(teacher))
    if tail == "uniform" and rest:
        loss = loss + float(q[rest].sum()) * (student[rest].logsumexp(0) - student[rest].mean())
    return loss


def listmle(student, teacher, label, k):
    order = kept(teacher, label, k)
    return plackett_luce(student, order, [1 / len(student)] * len(order))


def plistmle(student, teacher, label, k):
    num = len(student)
    weights = [2 ** (num - r) - 1 for r in range(1, num + 1)]  # whole numbers, of any size
    order = kept(teacher, label, k)
    total = sum(weights)
    return plackett_luce(student, order, [w / total if total else 0.0 for w in weights[: len(order)]])


def cross_entropy(student, label, smoothing=0.0):
    logp = student.log_softmax(0)
    return -(1 - smoothing) * logp[label] - smoothing * logp.mean()


def mixed_cross_entropy(student, label, other, share, smoothing=0.0):
    """Cross entropy with a distribution of two labels, smoothed as a whole."""
    wanted = torch.zeros(len(student), dtype=torch.float64)
    wanted[label] += share
    wanted[other] += 1 - share
    wanted = (1 - smoothing) * wanted + smoothing / len(student)
    return -(wanted * student.log_softmax(0)).sum()


def standardize(logits):
    return (logits - logits.mean()) / (logits.std(unbiased=True) + 1e-7)


def lumped(logits, classes, num):
    """Logits of some classes, and the rest as one class."""
    rest = others(classes, num)
    return torch.cat([logits[classes], logits[rest].logsumexp(0)[None]]) if rest else logits[classes]


def kl(student, teacher):
    p = teacher.log_softmax(0)
    return (p.exp() * (p - student.log_softmax(0))).sum()


def kd(student, teacher, label, k, alpha=0.1, temperature=2.0):
    classes = kept(teacher, label, k)
    both = (lumped(x / temperature, classes, len(x)) for x in (student, teacher))
    of_label = 0.0 if label is None else alpha * cross_entropy(student, label)
    return of_label + (1 - alpha) * temperature**2 * kl(*both)


def dkd(student, teacher, label, k, alpha=1.0, beta=8.0, temperature=4.0):
    def pair(x):
        others = torch.cat([x[:label], x[label + 1 :]])
        return torch.stack([x[label], others.logsumexp(0)])

    classes = kept(teacher, label, k)
    s, t = student / temperature, teacher / temperature
    tckd = kl(pair(s), pair(t))
    nckd = kl(lumped(s, classes, len(s))[1:], lumped(t, classes, len(t))[1:])
    return cross_entropy(student, label) + temperature**2 * (alpha * tckd + beta * nckd)


def both_at(student, teacher, label, k, temperature, student_temperature=None):
    """Student and teacher on the classes that are kept, the rest as one class; neither is normalised."""
    classes = kept(teacher, label, k)
    s, t = student / (student_temperature or temperature), teacher / temperature
    return lumped(s, classes, len(s)), lumped(t, classes, len(t))


def of_label(alpha, student, label):
    return 0.0 if label is None else alpha * cross_entropy(student, label)


def rkl(student, teacher, label, k, alpha=0.1, temperature=2.0):
    s, t = both_at(student, teacher, label, k, temperature)
    return of_label(alpha, student, label) + (1 - alpha) * temperature**2 * kl(t, s)


def js(student, teacher, label, k, alpha=0.1, temperature=2.0):
    p, q = (x.log_softmax(0) for x in both_at(student, teacher, label, k, temperature))
    m = (p.exp() + q.exp()) / 2
    divergence = sum((x.exp() * (x - m.log())).sum() for x in (p, q)) / 2
    return of_label(alpha, student, label) + (1 - alpha) * temperature**2 * divergence


def soft_ce(student, teacher, label, k, temperature=1.0):
    s, t = both_at(student, teacher, label, k, temperature, 1.0)
    return -(t.softmax(0) * s.log_softmax(0)).sum()


def wttm(student, teacher, label, k, alpha=1.0, beta=1.0, temperature=2.0):
    s, t = both_at(student, teacher, label, k, temperature, 1.0)
    power_sum = (teacher.softmax(0) ** (1 / temperature)).sum()  # over all classes, whatever k is
    return of_label(alpha, student, label) + beta * power_sum * kl(s, t)


def entropy(p):
    return -sum(x * x.log() for x in p if x > 0)


def ea_kd(student, teacher, label, k, alpha=1.0, beta=0.5, temperature=1.0, entropy_temperature=2.0):
    """Dense; from a top-k the teacher's tail is spread evenly in the weight, and lumped in the divergence."""
    p, q = (x.detach() / entropy_temperature for x in (student, teacher))
    p, q = p.softmax(0), q.softmax(0)
    rest = others(kept(teacher, label, k), len(teacher))
    if rest:
        q[rest] = q[rest].mean()
    weight = entropy(q) / 2 * (1 + entropy(p) / math.log(len(p)))
    divergence = kl(*both_at(student, teacher, label, k, temperature))
    return of_label(alpha, student, label) + beta * temperature**2 * weight * divergence


def rld(student, teacher, label, k, alpha=1.0, beta=0.5, temperature=1.0):
    def pair(x, c):
        return torch.stack([x[c], torch.cat([x[:c], x[c + 1 :]]).logsumexp(0)])

    s, t = student / temperature, teacher / temperature
    confidence = kl(pair(s, label), pair(t, int(t.argmax())))
    classes = kept(teacher, label, k)
    below = [c for c in classes if t[c] < t[label]]
    rest = others(classes, len(t))
    left = [torch.cat([x[below], x[rest].logsumexp(0)[None]]) if rest else x[below] for x in (s, t)]
    correlation = kl(*left) if len(left[0]) else 0.0
    return cross_entropy(student, label) + temperature**2 * (alpha * confidence + beta * correlation)


def dist(students, teachers, labels, k, alpha=1.0, beta=2.0, gamma=2.0, temperature=1.0):
    """Over a whole batch, because the columns are: [B, C] each; the mean over the batch."""

    def pearson(a, b):
        length = a.norm()
        a, b = a - a.mean(), b - b.mean()
        if a.norm() <= 1e-12 * length:  # constant, but for rounding
            return 0 * a.sum()
        return (a * b).sum() / (a.norm() * b.norm() + 1e-8)

    p = torch.stack([(s / temperature).softmax(0) for s in students])
    rows = []
    labels = [None] * len(students) if labels is None else labels.tolist()
    for teacher, label in zip(teachers, labels, strict=True):
        q = (teacher / temperature).softmax(0).clone()
        rest = others(kept(teacher, label, k), len(teacher))
        if rest:
            q[rest] = q[rest].mean()
        rows.append(q)
    q = torch.stack(rows)
    ce = [cross_entropy(s, y) for s, y in zip(students, labels, strict=True) if y is not None]
    of_label = alpha * torch.stack(ce).mean() if ce else 0.0
    inter = torch.stack([pearson(a, b) for a, b in zip(p, q, strict=True)]).mean()
    intra = torch.stack([pearson(a, b) for a, b in zip(p.T, q.T, strict=True)]).mean()
    return of_label + temperature**2 * (beta * (1 - inter) + gamma * (1 - intra))
