"""The networks, as their papers draw them.

>>> from squeezekit.models import create_model
>>> network = create_model("squeezenet1_1", num_classes=10)
>>> sum(p.numel() for p in network.parameters())
727626
"""

from __future__ import annotations

from squeezekit.models.alexnet import alexnet
from squeezekit.models.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from squeezekit.models.deep_compression import is_deep_compression, read_deep_compression
from squeezekit.models.efficientnet import (
    compound_scaling,
    efficientnet,
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    efficientnet_b5,
    efficientnet_b6,
    efficientnet_b7,
)
from squeezekit.models.head import replace_classifier
from squeezekit.models.interchange import from_torchvision, to_torchvision
from squeezekit.models.mbconv import MBConv
from squeezekit.models.mobilenet_v1 import DepthwiseSeparable, mobilenet_v1
from squeezekit.models.mobilenet_v2 import mobilenet_v2
from squeezekit.models.network import Network
from squeezekit.models.registry import (
    ModelSpec,
    build,
    check_picture_size,
    create_model,
    list_models,
    model_spec,
    register,
)
from squeezekit.models.squeeze_excitation import SqueezeExcitation
from squeezekit.models.squeezenet import (
    Fire,
    squeezenet,
    squeezenet1_0,
    squeezenet1_0_complex_bypass,
    squeezenet1_0_simple_bypass,
    squeezenet1_1,
)
from squeezekit.models.stochastic_depth import StochasticDepth
from squeezekit.models.vgg import vgg
from squeezekit.models.weights import load_weights

__all__ = [
    "DepthwiseSeparable",
    "Fire",
    "MBConv",
    "ModelSpec",
    "Network",
    "SqueezeExcitation",
    "StochasticDepth",
    "alexnet",
    "build",
    "check_picture_size",
    "compound_scaling",
    "create_model",
    "efficientnet",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "from_torchvision",
    "is_deep_compression",
    "list_models",
    "load_checkpoint",
    "load_weights",
    "mobilenet_v1",
    "mobilenet_v2",
    "model_spec",
    "read_checkpoint",
    "read_deep_compression",
    "register",
    "replace_classifier",
    "save_checkpoint",
    "squeezenet",
    "squeezenet1_0",
    "squeezenet1_0_complex_bypass",
    "squeezenet1_0_simple_bypass",
    "squeezenet1_1",
    "to_torchvision",
    "vgg",
]
