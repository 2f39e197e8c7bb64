"""Writes flax_cnn.onnx and flax_cnn.npz: a small network of JAX and Flax, channels last, with random weights.

    pip install flax==0.12.8 jax2onnx==0.17.1
    python make_flax_cnn.py

Kept as files, so that the tests need neither. The weights mean nothing; what counts is that another framework
wrote the file, in its own way, and computed the logits itself.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax2onnx import to_onnx


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(3, 8, (3, 3), strides=2, padding="SAME", rngs=rngs)
        self.norm1 = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.depthwise = nnx.Conv(8, 8, (3, 3), feature_group_count=8, use_bias=False, rngs=rngs)
        self.left = nnx.Conv(8, 6, (1, 1), rngs=rngs)
        self.right = nnx.Conv(8, 10, (3, 3), rngs=rngs)
        self.fc1 = nnx.Linear(4 * 5 * 16, 12, rngs=rngs)
        self.fc2 = nnx.Linear(12, 7, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm1(self.conv1(x)))
        x = x + nnx.relu(self.depthwise(x))
        x = jnp.concatenate([nnx.relu(self.left(x)), nnx.silu(self.right(x))], axis=-1)
        x = nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        return self.fc2(nnx.relu(self.fc1(x)))


def main() -> None:
    net = Net(nnx.Rngs(0))
    random = np.random.default_rng(0)
    for norm in (net.norm1,):
        norm.mean[...] = jnp.asarray(random.normal(0, 0.1, 8), jnp.float32)
        norm.var[...] = jnp.asarray(random.uniform(0.5, 1.5, 8), jnp.float32)
        norm.scale[...] = jnp.asarray(random.uniform(0.5, 1.5, 8), jnp.float32)
        norm.bias[...] = jnp.asarray(random.normal(0, 0.1, 8), jnp.float32)
    folder = Path(__file__).parent
    to_onnx(net, inputs=[("B", 16, 20, 3)], model_name="flax_cnn", return_mode="file",
            output_path=str(folder / "flax_cnn.onnx"))  # fmt: skip
    pictures = random.normal(0, 1, (3, 16, 20, 3)).astype(np.float32)
    logits = np.asarray(net(jnp.asarray(pictures)))
    np.savez_compressed(folder / "flax_cnn.npz", pictures=pictures, logits=logits)


if __name__ == "__main__":
    main()
