"""Set a first layer that whitens: its filters are the principal components of the pictures' patches.

Jordan, arXiv:2404.00498, section 3.2. Neighbouring pixels say almost the same; after this layer, all its
channels vary alike and none follows from another.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squeezekit.data.preparation import Preparation
from squeezekit.train.module import Normalise

__all__ = ["MOST", "whiten", "whitening_filters"]

#: As many pictures tell the components well enough.
MOST = 5000
#: Of the variance of prepared pictures. The paper has 5e-4; JPEG leaves colour details with less than that,
#: and layers of few bits would then see their own rounding of the others blown up.
EPSILON = 1e-2


def whiten(network: nn.Module, preparation: Preparation, batches: Iterable[Tensor]) -> None:
    """Set the layer ``features.whiten`` of a network, in place; do nothing where there is none.

    Parameters
    ----------
    network : nn.Module
    preparation : Preparation
    batches : iterable of Tensor of uint8, (N, H, W, C)
        Pictures that train.
    """
    layer = getattr(network.get_submodule("features"), "whiten", None)
    if layer is None:
        return
    normalise = Normalise(preparation)
    size = layer.weight[0].numel()
    total, count = torch.zeros(size, size, dtype=torch.float64), 0
    for batch in batches:
        x = normalise(batch.permute(0, 3, 1, 2))
        patches = F.unfold(x, layer.kernel_size, stride=layer.stride).transpose(1, 2).reshape(-1, size)
        patches = patches.double()
        total += patches.T @ patches
        count += len(patches)
    filters = whitening_filters(total / count)[: layer.out_channels // 2].view(-1, *layer.weight.shape[1:])
    with torch.no_grad():
        layer.weight.copy_(torch.cat([filters, -filters]))


def whitening_filters(covariance: Tensor) -> Tensor:
    """Return the filters, one a row, strongest component first.

    Parameters
    ----------
    covariance : Tensor of float64, (n, n)
        Of the patches' n numbers.

    Returns
    -------
    Tensor of float64, (n, n)
        Orthogonal rows; what they make of patches varies by one each, or less where the variance is hardly
        above :data:`EPSILON`.
    """
    variances, vectors = torch.linalg.eigh(covariance)
    # An eigenvector's sign is the library's choice; here its largest number is positive on every machine.
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    filters: Tensor = vectors * largest.sign() / (variances.clamp_min(0) + EPSILON).sqrt()
    return filters.T.flip(0)
