"""PLDTask: Plackett-Luce distillation from a store as a training task of timm."""

from __future__ import annotations

import timm
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pld.errors import ConfigError
from pld.join.store_views import StoreViews
from pld.losses import build_loss
from pld.losses.settings import Backend, Tail

try:
    from timm.task import ClassificationTask
except ImportError as error:
    raise ConfigError(
        f"pld.timm needs timm.task: found timm {timm.__version__}, wanted 1.0.23 or newer: pip install 'timm>=1.0.23'"
    ) from error


class PLDTask(ClassificationTask):
    """timm's ClassificationTask with PLD in place of its criterion; targets are the rows that `StoreViews` gives.

    Example:
        >>> from pld.images import open_source
        >>> from pld.store import open_store
        >>> views = StoreViews(open_store("store"), open_source("data"), size=224)  # doctest: +SKIP
        >>> task = PLDTask(model, views, device=device)  # doctest: +SKIP
        >>> task(*batch)["loss"].backward()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        views: StoreViews,
        *,
        temperature: float = 1.0,
        tail: Tail = "drop",
        approximate: bool = False,
        backend: Backend = "torch",
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        verbose: bool = True,
    ) -> None:
        """Make the task.

        Args:
            model: the student, with as many classes as the store has.
            views: the dataset that the loader reads.
            temperature: see `pld_loss`.
            tail: likewise.
            approximate: likewise.
            backend: likewise.
            device: see timm's ClassificationTask.
            dtype: likewise.
            verbose: likewise.

        Raises:
            ConfigError: a setting has an invalid value.
        """
        pld = build_loss("pld", temperature=temperature, tail=tail, approximate=approximate, backend=backend)
        super().__init__(model, pld, device=device, dtype=dtype, verbose=verbose)
        self._views, self._pld = views, pld

    def forward(self, input: Float[Tensor, "B 3 h w"], target: Int[Tensor, "B"]) -> dict[str, Tensor]:
        """The loss and its parts.

        Args:
            input: the views, normalised.
            target: their rows.

        Returns:
            `loss`; `output`, the student's logits; and, of labelled images and without gradients, `label_loss` and
            `teacher_loss`, what the label's rank and what the teacher's further ranks contribute to the loss.

        Raises:
            SignalError: as `pld_loss`.
            ConfigError: the student has another number of classes than the store.
        """
        output = self.trainable_module(input)
        wanted = self._views.store.manifest.identity.teacher.num_classes
        if output.shape[1] != wanted:
            raise ConfigError(
                f"PLDTask: the student has {output.shape[1]} classes, {self._views.store.url} has {wanted}; create it "
                f"with num_classes={wanted}"
            )
        topk = self._views.topk(target)
        loss, label_loss = self._pld.in_parts(output, topk, topk.labels)
        result = {"loss": loss, "output": output}
        if label_loss is not None:
            result |= {"label_loss": label_loss, "teacher_loss": loss.detach() - label_loss}
        return result
