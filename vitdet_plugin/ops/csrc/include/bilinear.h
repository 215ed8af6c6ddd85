// Weighted sums of bilinear samples of channels-last maps and their derivatives, for operators whose points have been
// turned into corners and weights. No include guard: each instruction set has a copy in its own namespace.
//
// `Points` has for each sampling point:
//   corner[4]  pixel of each corner: upper left, upper right, lower left, lower right; corner[0] is negative if the
//              point does not count
//   weight[4]  factor of each corner
//   dots       4 per point: output gradient times each corner
//   x, y, modulation  pairs of numbers and a factor, as loaded
//   left, right, upper, lower, inside[4]  for the derivatives, see PointGradient
// `channels` is the distance of two pixels, in elements.

// Reads `count` pairs of numbers to x and y of the points from number start on, and as many factors to modulation.
template <class Points, class T>
inline void load_points(const Points& points, const T* pairs, const T* factors, int64_t start, int64_t count) {
  using S = typename Compute<T>::type;
  constexpr int kWidth = kLanes<S>;
  S* x = points.x + start;
  S* y = points.y + start;
  S* modulation = points.modulation + start;
  int64_t e = 0;
  for (; e + kWidth <= count; e += kWidth) {
    const auto first = load<kWidth>(pairs + 2 * e), second = load<kWidth>(pairs + 2 * e + kWidth);
    store<kWidth, S, S>(x + e, even_lanes<S, kWidth>(first, second));
    store<kWidth, S, S>(y + e, odd_lanes<S, kWidth>(first, second));
    store<kWidth, S, S>(modulation + e, load<kWidth>(factors + e));
  }
  for (; e < count; ++e) {
    x[e] = load<1>(pairs + 2 * e);
    y[e] = load<1>(pairs + 2 * e + 1);
    modulation[e] = load<1>(factors + e);
  }
}

// Writes Chunk channels of one output, the sum over `taps` points from number e on.
template <int Chunk, class T, class Points>
inline __attribute__((always_inline)) void gather(
    const Points& points, int64_t e, int64_t taps, int64_t channels, const T* input, T* out) {
  using S = typename Compute<T>::type;
  constexpr int kWidth = std::min(Chunk, kLanes<S>), kVecs = Chunk / kWidth;
  Vec<S, kWidth> above[kVecs] = {}, below[kVecs] = {};
  for (const int64_t end = e + taps; e < end; ++e) {
    if (points.corner[0][e] < 0) {
      continue;
    }
    const T* p0 = input + points.corner[0][e] * channels;
    const T* p1 = input + points.corner[1][e] * channels;
    const T* p2 = input + points.corner[2][e] * channels;
    const T* p3 = input + points.corner[3][e] * channels;
    const S w0 = points.weight[0][e], w1 = points.weight[1][e], w2 = points.weight[2][e], w3 = points.weight[3][e];
    for (int i = 0; i < kVecs; ++i) {
      above[i] += load<kWidth>(p0 + i * kWidth) * w0;
      below[i] += load<kWidth>(p2 + i * kWidth) * w2;
      above[i] += load<kWidth>(p1 + i * kWidth) * w1;
      below[i] += load<kWidth>(p3 + i * kWidth) * w3;
    }
  }
  for (int i = 0; i < kVecs; ++i) {
    store<kWidth, T, S>(out + i * kWidth, above[i] + below[i]);
  }
}

// Writes the dot products of one output gradient with the corners of its points, and adds its weighted copies to the
// input gradient at the corners. The chunks after the first one are added to the dot products.
template <int Chunk, class T, class Points>
inline __attribute__((always_inline)) void scatter(
    const Points& points, int64_t e, int64_t taps, int64_t channels, const T* input, const T* grad_out,
    typename Compute<T>::type* grad_input, bool first) {
  using S = typename Compute<T>::type;
  constexpr int kWidth = std::min(Chunk, kLanes<S>), kVecs = Chunk / kWidth;
  Vec<S, kWidth> grad[kVecs];
  for (int i = 0; i < kVecs; ++i) {
    grad[i] = load<kWidth>(grad_out + i * kWidth);
  }
  for (const int64_t end = e + taps; e < end; ++e) {
    S* dots = points.dots + 4 * e;
    if (points.corner[0][e] < 0) {
      dots[0] = dots[1] = dots[2] = dots[3] = 0;
      continue;
    }
    Vec<S, kWidth> products[4];
    for (int corner = 0; corner < 4; ++corner) {
      const int64_t at = points.corner[corner][e] * channels;
      const S weight = points.weight[corner][e];
      products[corner] = load<kWidth>(input + at) * grad[0];
      for (int i = 1; i < kVecs; ++i) {
        products[corner] += load<kWidth>(input + at + i * kWidth) * grad[i];
      }
      for (int i = 0; i < kVecs; ++i) {
        S* to = grad_input + at + i * kWidth;
        store<kWidth, S, S>(to, load<kWidth>(to) + grad[i] * weight);
      }
    }
    S sums[4];
    sum4<S, kWidth>(sums, products[0], products[1], products[2], products[3]);
    for (int corner = 0; corner < 4; ++corner) {
      dots[corner] = first ? sums[corner] : dots[corner] + sums[corner];
    }
  }
}

// Derivatives of one point's contribution, from its dot products: by x and y in pixels, without the point's weight, and
// by that weight. left, right, upper and lower are the bilinear weights of one axis, 0 outside the map; inside is 1 or 0
// for the left, right, upper and lower corners.
template <class S, class Points>
struct PointGradient {
  S x, y, weight;
  inline __attribute__((always_inline)) PointGradient(const Points& points, int64_t e, const S* dots) {
    const S d0 = dots[0], d1 = dots[1], d2 = dots[2], d3 = dots[3];
    const S left = points.left[e], right = points.right[e], upper = points.upper[e], lower = points.lower[e];
    x = points.inside[1][e] * (upper * d1 + lower * d3) - points.inside[0][e] * (upper * d0 + lower * d2);
    y = points.inside[3][e] * (left * d2 + right * d3) - points.inside[2][e] * (left * d0 + right * d1);
    weight = upper * (left * d0 + right * d1) + lower * (left * d2 + right * d3);
  }
};

// Calls body(integral constant, first channel) for chunks of 32, 16, 8, 4 and 1 channels.
template <class Body>
inline __attribute__((always_inline)) void for_chunks(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; channels - c >= 32; c += 32) {
    body(std::integral_constant<int, 32>{}, c);
  }
  if (channels - c >= 16) {
    body(std::integral_constant<int, 16>{}, c);
    c += 16;
  }
  if (channels - c >= 8) {
    body(std::integral_constant<int, 8>{}, c);
    c += 8;
  }
  if (channels - c >= 4) {
    body(std::integral_constant<int, 4>{}, c);
    c += 4;
  }
  for (; c < channels; ++c) {
    body(std::integral_constant<int, 1>{}, c);
  }
}
