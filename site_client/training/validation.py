"""Judge a model by the validation frames: balanced accuracy in each dataset's own vocabulary."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from shared.echo.label_sets import possible_views
from shared.metrics import score_labels, vocabulary_log_probabilities
from site_client.frames import FrameSet
from site_client.training.batches import plain_batches
from site_client.training.checkpoint import Validation

_BATCH = 64  # frames in a forward pass; changes the speed, not the result


class Judge:
    """Scores a model on frames that it does not learn from."""

    def __init__(
        self,
        frames: FrameSet,
        views: tuple[str, ...],
        loss_fn: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        """Keep the frames and the loss of the training."""
        self._frames = frames
        self._views = views
        self._loss_fn = loss_fn
        self._allowed_NC = torch.from_numpy(frames.allowed_views(views))

    @torch.inference_mode()
    def __call__(self, model: nn.Module) -> Validation:
        """Balanced accuracy, mean over the datasets, and mean loss, of single frames."""
        images = plain_batches(self._frames, _BATCH)
        logits_NC = torch.cat(
            [model(x.contiguous(memory_format=torch.channels_last)) for x in images]
        )
        loss = float(self._loss_fn(logits_NC, self._allowed_NC).mean())
        logarithms_NC = torch.log_softmax(logits_NC, dim=1).numpy()
        scores = []
        for place, words in enumerate(self._frames.vocabularies):
            here_N = self._frames.dataset_N == place
            if not here_N.any():
                continue
            found = vocabulary_log_probabilities(
                logarithms_NC[here_N], possible_views(words, self._views)
            )
            scores.append(score_labels(found, self._frames.label_N[here_N], words.labels))
        return Validation(float(np.mean([s.balanced_accuracy for s in scores])), loss)
