"""A scan that computes the gradients of its linear maps after the loop."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp

# A centred matrix, its scale and its bias: a `Normed` in a loop.
Weights = tuple[jax.Array, jax.Array, jax.Array | None]
# The body of `recur`: (linear, constants, carry, inputs) -> (carry, output).
Body = Callable[[Callable[[jax.Array], jax.Array], Any, Any, Any], Any]


class Normed(nnx.Module):
  """A layer-normalised linear map: scale * normalise(x W) + bias.

  Args:
    inputs: width of x.
    widths: widths of the blocks of columns of W. Each block is initialised by
      itself (uniformly, after Glorot and Bengio); all are normalised together.
    bias: whether there is a bias.
    rngs: seeds of the parameters.
  """

  def __init__(
    self, inputs: int, widths: Sequence[int], bias: bool, *, rngs: nnx.Rngs
  ) -> None:
    glorot = jax.nn.initializers.glorot_uniform()
    blocks = [glorot(rngs.params(), (inputs, width)) for width in widths]
    self.matrix = nnx.Param(jnp.concatenate(blocks, axis=1))
    self.scale = nnx.Param(jnp.ones(sum(widths)))
    self.bias = nnx.Param(jnp.zeros(sum(widths))) if bias else None

  def weights(self) -> Weights:
    """The centred W, the scale and the bias.

    Normalising subtracts its mean from every x W. That is linear in x, so
    subtracting the mean of W's columns from W once does the same.
    """
    matrix = self.matrix[...]
    centred = matrix - jnp.mean(matrix, axis=1, keepdims=True)
    bias = None if self.bias is None else self.bias[...]
    return centred, self.scale[...], bias

  def __call__(self, x: jax.Array) -> jax.Array:
    matrix, scale, bias = self.weights()
    return _rescale(x @ matrix, scale, bias)


def _rescale(
  product: jax.Array, scale: jax.Array, bias: jax.Array | None
) -> jax.Array:
  square = jnp.mean(product * product, axis=-1, keepdims=True)
  scale = jnp.broadcast_to(scale, product.shape)
  shift = 0.0 if bias is None else jnp.broadcast_to(bias, product.shape)
  return product * jax.lax.rsqrt(square + 1e-6) * scale + shift


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recur(
  body: Body, maps: Sequence[Weights], constants: Any, carry: Any, inputs: Any
) -> tuple[Any, Any]:
  """A scan that computes each map's gradient as one product over all positions.

    carry, y[t] = body(linear, constants, carry, inputs[t])

  `linear(x)` applies the next of `maps`; `body` calls it once for each of them,
  in order. The gradient of an ordinary scan would add to a sum as large as W at
  every position, which costs more time than the products. Here the backward
  scan returns the cotangents of each `linear(x)`, [positions, rows, outputs],
  and one product of x' and these follows. The forward scan stores each x and
  x W; the backward scan computes the rest of `body` again, so that no attention
  weights are stored.

  Args:
    body: a function of its arguments only; it must not close over arrays.
    maps: of `Normed.weights`, one for each call of `linear`.
    constants: a pair of pytrees; the second gets no gradient.
    carry: a pytree of floats.
    inputs: a pair like `constants`, each leaf [positions, ...].

  Returns:
    (carry, y), as jax.lax.scan.
  """
  return _recur_forward(body, maps, constants, carry, inputs)[0]


def _recur_forward(
  body: Body, maps: Sequence[Weights], constants: Any, carry: Any, inputs: Any
) -> tuple[tuple[Any, Any], Any]:
  def inner(carry: Any, now: Any) -> tuple[Any, Any]:
    taken: list[jax.Array] = []
    products: list[jax.Array] = []
    turn = iter(maps)

    def linear(x: jax.Array) -> jax.Array:
      matrix, scale, bias = next(turn)
      taken.append(x)
      products.append(x @ matrix)
      return _rescale(products[-1], scale, bias)

    after, y = body(linear, constants, carry, now)
    return after, (y, (carry, taken, products))

  carry, (y, saved) = jax.lax.scan(inner, carry, inputs)
  return (carry, y), (saved, maps, constants, inputs)


def _recur_backward(
  body: Body, residuals: Any, cotangents: Any
) -> tuple[Any, Any, Any, Any]:
  saved, maps, (constants, fixed), inputs = residuals

  def inner(sums: Any, now: Any) -> tuple[Any, Any]:
    (carry, _, products), (moving, still), y_cotangent = now

    def replay(nudges: Any, constants: Any, carry: Any, moving: Any) -> Any:
      turn = zip(maps, products, nudges, strict=True)

      def linear(x: jax.Array) -> jax.Array:
        (matrix, scale, bias), product, nudge = next(turn)
        return _rescale(_known(x, matrix, product), scale, bias) + nudge

      return body(linear, (constants, fixed), carry, (moving, still))

    # The cotangent of a zero that is added to a value is that of the value.
    zeros = [jnp.zeros_like(product) for product in products]
    back = jax.vjp(replay, zeros, constants, carry, moving)[1]
    out, more, carry, moving = back((sums[0], y_cotangent))
    return (carry, jax.tree.map(jnp.add, sums[1], more)), (out, moving)

  sums = cotangents[0], jax.tree.map(jnp.zeros_like, constants)
  run = saved, inputs, cotangents[1]
  (carry, sums), (out, moving) = jax.lax.scan(inner, sums, run, reverse=True)
  maps = list(map(_map_gradient, maps, saved[1], saved[2], out))
  return maps, (sums, None), carry, (moving, None)


def _map_gradient(
  weights: Weights, taken: jax.Array, products: jax.Array, out: jax.Array
) -> Weights:
  back = jax.vjp(_rescale, products, *weights[1:])[1]
  products, scale, bias = back(out)
  return jnp.einsum('trh,trk->hk', taken, products), scale, bias


recur.defvjp(_recur_forward, _recur_backward)


@jax.custom_vjp
def _known(x: jax.Array, matrix: jax.Array, product: jax.Array) -> jax.Array:
  """x @ matrix, whose value is known; only x gets a gradient."""
  del x, matrix
  return product


_known.defvjp(
  lambda x, matrix, product: (product, matrix),
  lambda matrix, cotangent: (cotangent @ matrix.T, None, None),
)
