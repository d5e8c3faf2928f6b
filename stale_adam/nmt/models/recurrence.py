"""A scan whose linear maps take their gradients after it, all at once."""

import functools

import flax.nnx as nnx
import jax
import jax.numpy as jnp


class Normed(nnx.Module):
  """A layer-normalised linear map: scale * normalise(x W) + bias.

  Args:
    inputs: width of x.
    widths: of the blocks of columns of W, each with an initialisation (Glorot
      and Bengio's uniform one) of its own, but normalised as one.
    bias: whether there is one.
    rngs: seeds of the parameters.
  """

  def __init__(self, inputs, widths, bias, *, rngs: nnx.Rngs):
    glorot = jax.nn.initializers.glorot_uniform()
    blocks = [glorot(rngs.params(), (inputs, width)) for width in widths]
    self.matrix = nnx.Param(jnp.concatenate(blocks, axis=1))
    self.scale = nnx.Param(jnp.ones(sum(widths)))
    self.bias = nnx.Param(jnp.zeros(sum(widths))) if bias else None

  def weights(self) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """W centred, the scale and the bias.

    Normalising takes the mean from every x W. It is linear in x, so taking the
    mean of its columns from W does the same, once for all positions.
    """
    matrix = self.matrix[...]
    centred = matrix - jnp.mean(matrix, axis=1, keepdims=True)
    bias = None if self.bias is None else self.bias[...]
    return centred, self.scale[...], bias

  def __call__(self, x):
    matrix, scale, bias = self.weights()
    return _rescale(x @ matrix, scale, bias)


def _rescale(product, scale, bias):
  square = jnp.mean(product * product, axis=-1, keepdims=True)
  scale = jnp.broadcast_to(scale, product.shape)
  bias = 0.0 if bias is None else jnp.broadcast_to(bias, product.shape)
  return product * jax.lax.rsqrt(square + 1e-6) * scale + bias


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recur(body, maps, constants, carry, inputs):
  """A scan that takes each map's gradient as one product over all positions.

    carry, y[t] = body(linear, constants, carry, inputs[t])

  `linear(x)` applies the next of `maps`; `body` calls it once for each of them,
  in their order. The gradient of an ordinary scan would add to a sum as large
  as W at every position, and that traffic costs more than the products do. Here
  the way back yields the cotangent of each `linear(x)`, [positions, rows,
  outputs], and x' times all of it comes last. It keeps each x and x W of the
  way there and repeats the rest of `body`, so that no table of attention is
  stored.

  Args:
    body: a function of its arguments alone, closed over no array.
    maps: list of (W, scale, bias), as `Normed.weights` returns.
    constants: a pair of pytrees; the second gets no gradient.
    carry: pytree of floats.
    inputs: as `constants`, each leaf [positions, ...].

  Returns: (carry, y), as jax.lax.scan.
  """
  return _recur_forward(body, maps, constants, carry, inputs)[0]


def _recur_forward(body, maps, constants, carry, inputs):
  def inner(carry, now):
    taken, products, turn = [], [], iter(maps)

    def linear(x):
      matrix, scale, bias = next(turn)
      taken.append(x)
      products.append(x @ matrix)
      return _rescale(products[-1], scale, bias)

    after, y = body(linear, constants, carry, now)
    return after, (y, (carry, taken, products))

  carry, (y, saved) = jax.lax.scan(inner, carry, inputs)
  return (carry, y), (saved, maps, constants, inputs)


def _recur_backward(body, residuals, cotangents):
  saved, maps, (constants, fixed), inputs = residuals

  def inner(sums, now):
    (carry, _, products), (moving, still), y_cotangent = now

    def replay(nudges, constants, carry, moving):
      turn = zip(maps, products, nudges, strict=True)

      def linear(x):
        (matrix, scale, bias), product, nudge = next(turn)
        return _rescale(_known(x, matrix, product), scale, bias) + nudge

      return body(linear, (constants, fixed), carry, (moving, still))

    # The cotangent of a zero added to a value is the cotangent of the value.
    zeros = [jnp.zeros_like(product) for product in products]
    back = jax.vjp(replay, zeros, constants, carry, moving)[1]
    out, more, carry, moving = back((sums[0], y_cotangent))
    return (carry, jax.tree.map(jnp.add, sums[1], more)), (out, moving)

  sums = cotangents[0], jax.tree.map(jnp.zeros_like, constants)
  run = saved, inputs, cotangents[1]
  (carry, sums), (out, moving) = jax.lax.scan(inner, sums, run, reverse=True)
  maps = list(map(_map_gradient, maps, saved[1], saved[2], out))
  return maps, (sums, None), carry, (moving, None)


def _map_gradient(weights, taken, products, out):
  back = jax.vjp(_rescale, products, *weights[1:])[1]
  products, scale, bias = back(out)
  return jnp.einsum('trh,trk->hk', taken, products), scale, bias


recur.defvjp(_recur_forward, _recur_backward)


@jax.custom_vjp
def _known(x, matrix, product):
  """x @ matrix, of which the value is known and the gradient wanted in x."""
  del x, matrix
  return product


_known.defvjp(
  lambda x, matrix, product: (product, matrix),
  lambda matrix, cotangent: (cotangent @ matrix.T, None, None),
)
