"""Workers that send a compressed gradient, and keep the rest for later."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from stale_adam import checks
from stale_adam.problem import Params
from stale_adam.worker import Worker, size

# (sent, memory) from (gradient, memory), as one jitted function.
Compress = Callable[[Any, Any], tuple[Any, Any]]


def _sender(
  init: Callable[[Params, int], Any],
  compress: Compress,
  nbytes: Callable[[Params, int], int],
) -> Worker:
  """A worker that compresses the sum of its L gradients."""

  def compute(
    gradient: Callable[..., Any], params: Params, batches: Any, memory: Any
  ) -> tuple[Any, Any, Any]:
    loss, found = gradient(params, batches)
    return loss, *compress(found, memory)

  return Worker(init, compute, nbytes)


def _sparse(params: Params, density: float) -> int:
  """Bytes of a share of the elements, each with an index of 4 bytes."""
  whole, count = size(params), _elements(params)
  sparse = _count(density, count) * (whole / count + 4)
  return min(whole, round(sparse))


def _elements(params: Params) -> int:
  return sum(x.size for x in jax.tree.leaves(params))


def _count(density: float, elements: int) -> int:
  """A share of the elements, at least one."""
  return max(1, round(density * elements))


def _largest(values: Any, count: Any) -> Any:
  """The count-th largest of numbers that are not negative; NaN is the largest.

  Without sorting, which takes longer than a small model's gradient on a CPU:
  the bits of such numbers are in their order. From the highest bit on, each is
  set if so many numbers are then at least as large.
  """
  bits = jnp.finfo(values.dtype).bits
  kind = jnp.dtype(f'uint{bits}')
  ordered = jax.lax.bitcast_convert_type(values, kind)

  def fix(i: Any, found: Any) -> Any:
    more = found | (jnp.ones((), kind) << (bits - 2 - i).astype(kind))
    return jnp.where(jnp.sum(ordered >= more) >= count, more, found)

  found = jax.lax.fori_loop(0, bits - 1, fix, jnp.zeros((), kind))
  return jax.lax.bitcast_convert_type(found, values.dtype)


def _nothing(params: Params, worker: int) -> Any:
  del worker
  return optax.tree.zeros_like(params)


def drop_gradients(rate: float = 0.99) -> Worker:
  """Send only the largest elements; add the rest to the next push.

    u = g + r;   sent = u where abs(u) >= threshold, else 0;   r <- u - sent

  The threshold is the smallest absolute value among the largest (1 - rate)
  share of all elements, at least one. Elements equal to it are all sent.
  Nothing is lost: what is not sent stays in r.

  Args:
    rate: R, the share that is not sent, 0.99 in the source; 0 sends everything.

  Returns:
    A worker whose memory is its residual r, shaped like the parameters; for
    `worker` of `serve` and `simulate`.

  Raises:
    ValueError: if the rate is not in [0, 1).

  Source: Aji and Heafield (2017), "Sparse Communication for Distributed
    Gradient Descent", as in their code, a fork of Marian. They estimate the
    threshold of each shard of the parameters from a sample; ours is exact, over
    all. Their pulls are sparse, too, with the elements that were sent, and
    their first pushes are whole. The paper was not at hand.
  """
  if not 0 <= rate < 1:
    raise ValueError(f'rate={rate}: drop a share in [0, 1)')
  nbytes = lambda params, pushes: _sparse(params, 1 - rate)
  return _sender(_nothing, functools.partial(_drop, rate), nbytes)


@functools.partial(jax.jit, static_argnums=0)
def _drop(rate: float, gradient: Any, residual: Any) -> tuple[Any, Any]:
  """Split into (sent, rest); of every element one of them is 0."""
  total = jax.tree.map(jnp.add, gradient, residual)
  found = jnp.abs(ravel_pytree(total)[0])
  keep = _above(_largest(found, _count(1 - rate, found.size)), total)
  # Selected, not subtracted: nothing is lost to rounding.
  sent = jax.tree.map(lambda k, u: jnp.where(k, u, 0), keep, total)
  rest = jax.tree.map(lambda k, u: jnp.where(k, 0, u), keep, total)
  return sent, rest


class KeptState(NamedTuple):
  """Memory of a worker of `keep_dropped`.

  Attributes:
    residual: r, what was not sent yet.
    offset: from the parameters pulled to those that the worker goes on from.
    state: of the worker's optimizer.
    count: pushes since the offset was last 0, an int32 scalar.
  """

  residual: Any
  offset: Any
  state: Any
  count: Any


def keep_dropped(
  inner: optax.GradientTransformation, rate: float = 0.99, pushes: int = 500
) -> Worker:
  """Drop gradients, but apply what was dropped on the worker itself.

    x = theta_pulled + o;   g at x;   u = g + r;   sent as of `drop_gradients`
    r <- u - sent;          o <- o + inner(g - sent)

  and o <- 0 after every so many pushes. So a worker keeps the effect of the
  gradients that it has not sent.

  Args:
    inner: the worker's optimizer, which keeps its state.
    rate: R, the share that is not sent.
    pushes: of a worker, until its offset is given up.

  Returns:
    A worker for `serve` and `simulate`.

  Raises:
    ValueError: if the rate is not in [0, 1), or `pushes` not a whole number
      from 1 on.

  Source: Aji, Heafield and Bogoychev (2019), "Combining Global Sparse Gradients
    with Local Gradients in Distributed Neural Network Training", as in the
    authors' code, a fork of Marian. They have no server: every node applies the
    sum of all sparse gradients and its own rest by an optimizer of its own, and
    parameters are averaged every 500 updates. The offset, and that it is given
    up, are ours. A later version of their code doubles the rest; ours does not.
  """
  if not 0 <= rate < 1:
    raise ValueError(f'rate={rate}: drop a share in [0, 1)')
  checks.whole('pushes', pushes, 1)

  def init(params: Params, worker: int) -> KeptState:
    zeros = _nothing(params, worker)
    count = jnp.zeros((), jnp.int32)
    return KeptState(zeros, zeros, inner.init(params), count)

  @jax.jit
  def begin(params: Params, memory: KeptState) -> Params:
    return jax.tree.map(jnp.add, params, memory.offset)

  @jax.jit
  def end(params: Params, g: Any, memory: KeptState) -> tuple[Any, KeptState]:
    sent, rest = _drop(rate, g, memory.residual)
    own = jax.tree.map(jnp.subtract, g, sent)
    updates, state = inner.update(own, memory.state, params)
    count = (memory.count + 1) % pushes
    go_on = lambda o, x: jnp.where(count == 0, 0, o + x).astype(o.dtype)
    offset = jax.tree.map(go_on, memory.offset, updates)
    return sent, KeptState(rest, offset, state, count)

  def compute(
    gradient: Callable[..., Any], params: Params, batches: Any, memory: Any
  ) -> tuple[Any, Any, Any]:
    local = begin(params, memory)
    loss, found = gradient(local, batches)
    return loss, *end(local, found, memory)

  nbytes = lambda params, pushes: _sparse(params, 1 - rate)
  return Worker(init, compute, nbytes)


def _above(threshold: Any, tree: Any) -> Any:
  """Where an element is at least the threshold; NaN is, so that it is sent."""
  below = lambda u: jnp.abs(u).astype(threshold.dtype) < threshold
  return jax.tree.map(lambda u: ~below(u), tree)


class DeepState(NamedTuple):
  """Memory of a worker of `compress_deeply`.

  Attributes:
    momentum: m.
    velocity: v, the sum of momenta that were not sent.
    count: pushes so far, an int32 scalar.
  """

  momentum: Any
  velocity: Any
  count: Any


def compress_deeply(
  workers: int,
  momentum: float = 0.9,
  densities: Sequence[float] = (0.25, 0.0625, 0.015625, 0.004, 0.001),
  pushes: int = 100,
  clip_norm: float | None = None,
) -> Worker:
  """Gradient dropping with momentum on the workers: deep gradient compression.

    g <- g min(1, clip / (sqrt(N) |g|));   m <- mu m + g;   v <- v + m
    sent = v where abs(v) >= threshold;    m, v <- 0 where sent

  The threshold is that of `drop_gradients` with a density in place of 1 - R,
  which falls from one stage to the next: the warm-up of the source.

  Args:
    workers: N, for the clipping.
    momentum: mu. The server's optimizer then has none: SGD.
    densities: shares that are sent, one for each stage.
    pushes: of a worker, in each stage but the last.
    clip_norm: of a sum over all workers; None for no clipping.

  Returns:
    A worker for `serve` and `simulate`.

  Raises:
    ValueError: if a density is not in (0, 1], there is none, or another number
      is out of range.

  Source: Lin, Han, Mao, Wang and Dally (2018), "Deep Gradient Compression", as
    in code that an author released, whose densities are these, rounded. It
    chooses the threshold in each array, from a sample, ours is over all
    together, and stays an epoch in each stage. The paper was not at hand: we
    know the clipping by N from memory only. That code clips each array by its
    norm, or by the root mean square of its norms on all workers.
  """
  checks.whole('workers', workers, 1)
  checks.whole('pushes', pushes, 1)
  checks.real('momentum', momentum, 0.0, 1.0)
  for density in densities:
    checks.real('density', density, 0.0, 1.0, above=True)
  if not densities:
    raise ValueError('densities=(): name one or more shares in (0, 1]')
  clip = None if clip_norm is None else clip_norm * workers**-0.5

  def init(params: Params, worker: int) -> DeepState:
    zeros = _nothing(params, worker)
    return DeepState(zeros, zeros, jnp.zeros((), jnp.int32))

  @jax.jit
  def compress(g: Any, state: DeepState) -> tuple[Any, DeepState]:
    if clip is not None:
      factor = clip / jnp.maximum(clip, optax.tree.norm(g))
      g = jax.tree.map(lambda g: factor.astype(g.dtype) * g, g)
    m = jax.tree.map(lambda m, g: momentum * m + g, state.momentum, g)
    v = jax.tree.map(jnp.add, state.velocity, m)
    found = jnp.abs(ravel_pytree(v)[0])
    counts = [_count(density, found.size) for density in densities]
    stage = jnp.minimum(state.count // pushes, len(counts) - 1)
    keep = _above(_largest(found, jnp.array(counts)[stage]), v)
    sent = jax.tree.map(lambda k, x: jnp.where(k, x, 0), keep, v)
    rest = lambda tree: jax.tree.map(
      lambda k, x: jnp.where(k, 0, x), keep, tree
    )
    return sent, DeepState(rest(m), rest(v), state.count + 1)

  def nbytes(params: Params, sent: int) -> int:
    stage = min(sent // pushes, len(densities) - 1)
    return _sparse(params, densities[stage])

  return _sender(init, compress, nbytes)


def send_signs() -> Worker:
  """Send one bit an element, and two numbers a column: 1-bit SGD.

    u = g + r;   sent = mean of the entries of u that have u's sign;
    r <- u - sent

  The means are of the positive (and zero) and of the negative entries of a
  column of a matrix, or of a whole vector. A scalar is sent as it is.

  Returns:
    A worker whose memory is its residual r, for `serve` and `simulate`.

  Source: Seide, Fu, Droppo, Li and Yu (2014), "1-Bit Stochastic Gradient
    Descent and its Application to Data-Parallel Distributed Training of Speech
    DNNs", as in CNTK, the authors' toolkit, with its threshold at zero. There
    the sum that comes back is quantised in the same way. The paper was not at
    hand. A column, here, runs along the first axis.
  """

  def nbytes(params: Params, pushes: int) -> int:
    del pushes
    leaves = jax.tree.leaves(params)
    # Of a matrix, two numbers a column; of a vector, two.
    columns = lambda x: x.size // x.shape[0] if x.ndim else 1
    means = sum(2 * columns(x) * x.dtype.itemsize for x in leaves)
    return -(-_elements(params) // 8) + means

  return _sender(_nothing, _signs, nbytes)


@jax.jit
def _signs(gradient: Any, residual: Any) -> tuple[Any, Any]:
  total = jax.tree.map(jnp.add, gradient, residual)

  def quantised(u: jax.Array) -> jax.Array:
    sent = jnp.zeros_like(u)
    column = 0 if u.ndim else ()
    for which in (u >= 0, u < 0):
      some = jnp.maximum(which.sum(axis=column), 1).astype(u.dtype)
      mean = jnp.where(which, u, 0).sum(axis=column) / some
      sent = jnp.where(which, mean, sent)
    return sent

  sent = jax.tree.map(quantised, total)
  return sent, jax.tree.map(jnp.subtract, total, sent)


def quantise(levels: int = 15, bucket: int = 512, seed: int = 0) -> Worker:
  """Round every element to a few levels, at random and without bias: QSGD.

    sent_i = |g| sign(g_i) xi_i / s

  with the norm |g| of the element's bucket, a part of its array; xi_i is
  s abs(g_i) / |g|, rounded up with a probability equal to its fractional part,
  else down.

  Args:
    levels: s.
    bucket: elements that share a norm; the last bucket of an array has fewer.
    seed: of the rounding; every worker has a stream of its own.

  Returns:
    A worker whose memory is the key of its next rounding, for `serve` and
    `simulate`. Nothing is kept for later.

  Raises:
    ValueError: if s or the bucket is not a whole number from 1 on, or the seed
      not one from 0 to 2**32 - 1.

  Source: Alistarh, Grubic, Li, Tomioka and Vojnovic (2017), "QSGD:
    Communication-Efficient SGD via Gradient Quantization and Encoding", as in
    GRACE, code of others; NUQSGD, partly by the same authors, has no level at
    0. The paper was not at hand, and the defaults were not checked.
  """
  checks.whole('levels', levels, 1)
  checks.whole('bucket', bucket, 1)
  checks.seed(seed)
  init = lambda params, worker: jax.random.fold_in(
    jax.random.PRNGKey(seed), worker
  )

  def nbytes(params: Params, pushes: int) -> int:
    del pushes
    buckets = sum(-(-x.size // bucket) for x in jax.tree.leaves(params))
    bits = math.ceil(math.log2(2 * levels + 1))  # Without entropy coding.
    return -(-_elements(params) * bits // 8) + 4 * buckets

  return _sender(init, functools.partial(_quantised, levels, bucket), nbytes)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _quantised(
  levels: int, bucket: int, gradient: Any, key: Any
) -> tuple[Any, Any]:
  key, own = jax.random.split(key)
  leaves, structure = jax.tree.flatten(gradient)
  keys = jax.random.split(own, len(leaves))

  def rounded(g: jax.Array, key: jax.Array) -> jax.Array:
    shape, dtype = g.shape, g.dtype
    g = g.astype(jnp.promote_types(dtype, jnp.float32)).ravel()
    g = jnp.pad(g, (0, -g.size % bucket)).reshape(-1, bucket)
    norm = jnp.sqrt(jnp.sum(g * g, axis=1, keepdims=True))
    scaled = levels * jnp.abs(g) / jnp.where(norm > 0, norm, 1)
    up = jnp.floor(scaled + jax.random.uniform(key, g.shape, g.dtype))
    sent = norm * jnp.sign(g) * up * (1 / levels)
    sent = sent.ravel()[: np.prod(shape, dtype=int)].reshape(shape)
    return sent.astype(dtype)

  sent = map(rounded, leaves, keys)
  return jax.tree.unflatten(structure, list(sent)), key
