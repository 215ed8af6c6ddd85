// DCNv3 on channels-last tensors for one instruction set; compiled several times by each_isa.h.
//
// Work is split into blocks: a range of output pixels of one row and of groups. Step 1 turns offsets and modulation of
// a block into addresses and weights, one lane per sampling point; step 2 iterates over the points, one lane per
// channel. Corners outside the input get the weight 0 and the address of a corner inside, so no other pixel is read.

// The results of step 1 for each sampling point of a block.
template <class S>
struct Points {
  S* x;          // offsets, as loaded
  S* y;
  S* mask;       // modulation
  S* left;       // (1 - fraction of x), 0 if the left corners are outside
  S* right;      // fraction of x, 0 if the right corners are outside
  S* upper;
  S* lower;
  S* inside[4];  // 1 or 0: left, right, upper, lower corners are inside; for the backward pass
  S* weight[4];  // bilinear weight times modulation: upper left, upper right, lower left, lower right
  S* dots;       // 4 per point: output gradient times each corner
  S* origin_x;   // of the block's points without offset, relative to its first pixel
  S* origin_y;
  int32_t* corner[4];  // pixel of each corner within the image; corner[0] is negative if all are outside

  Points(void* memory, int64_t capacity) {
    auto* numbers = static_cast<S*>(memory);
    for (S** array : {&x, &y, &mask, &left, &right, &upper, &lower, &inside[0], &inside[1], &inside[2], &inside[3],
                      &weight[0], &weight[1], &weight[2], &weight[3], &origin_x, &origin_y, &dots}) {
      *array = numbers, numbers += capacity;
    }
    auto* indices = reinterpret_cast<int32_t*>(numbers + 3 * capacity); // after the dot products
    for (auto& array : corner) {
      array = indices, indices += capacity;
    }
  }
};

template <class S>
inline void fill_origins(const Points<S>& points, const Geometry& geometry, int64_t pixels, int64_t groups) {
  const int64_t taps = geometry.taps();
  for (int64_t pixel = 0, e = 0; pixel < pixels; ++pixel) {
    for (int64_t i = 0; i < groups * taps; ++i, ++e) {
      points.origin_x[e] = geometry.origin_x(i % taps) + pixel * geometry.stride_w;
      points.origin_y[e] = geometry.origin_y(i % taps);
    }
  }
}

template <class S, class T>
inline void load_points(const Points<S>& points, const T* offset, const T* mask, int64_t start, int64_t count) {
  constexpr int kWidth = kLanes<S>;
  S* x = points.x + start;
  S* y = points.y + start;
  S* m = points.mask + start;
  int64_t e = 0;
  for (; e + kWidth <= count; e += kWidth) {
    const auto first = load<kWidth>(offset + 2 * e), second = load<kWidth>(offset + 2 * e + kWidth);
    store<kWidth, S, S>(x + e, even_lanes<S, kWidth>(first, second));
    store<kWidth, S, S>(y + e, odd_lanes<S, kWidth>(first, second));
    store<kWidth, S, S>(m + e, load<kWidth>(mask + e));
  }
  for (; e < count; ++e) {
    x[e] = load<1>(offset + 2 * e);
    y[e] = load<1>(offset + 2 * e + 1);
    m[e] = load<1>(mask + e);
  }
}

// One axis: weights of the near and far corners (0 outside) and their indices (clamped to the input). A NaN position
// counts as inside, and its weights are NaN.
template <class S>
struct Axis {
  using V = Vec<S, kLanes<S>>;
  using I = Vec<std::conditional_t<sizeof(S) == 4, int32_t, int64_t>, kLanes<S>>;
  V near, far, near_inside, far_inside;
  I near_index, far_index, reaches;

  inline __attribute__((always_inline)) Axis(V position, int32_t size) {
    const V zero{}, one = zero + S(1), limit = zero + S(size);
    const V raised = position < -one ? -one : position;
    const V bounded = raised > limit ? limit : raised;
    const V number = bounded == bounded ? bounded : zero;
    I floor = __builtin_convertvector(number, I);
    floor += number < __builtin_convertvector(floor, V); // true is -1
    const V fraction = bounded - __builtin_convertvector(floor, V);
    const I near_in = floor >= 0, far_in = floor + 1 < size;
    near_inside = near_in ? one : zero;
    far_inside = far_in ? one : zero;
    near = (one - fraction) * near_inside;
    far = fraction * far_inside;
    near_index = floor & near_in;
    far_index = far_in ? floor + 1 : I{} + (size - 1);
    reaches = (number > -one) & (number < limit);
  }
};

// Step 1 for `count` points whose offsets and modulation have been loaded; arrays are padded to whole registers.
template <bool Backward, class S>
inline void place_points(
    const Points<S>& points, int64_t count, S start_x, S start_y, S scale, int32_t height, int32_t width) {
  constexpr int kWidth = kLanes<S>;
  using V = Vec<S, kWidth>;
  for (int64_t e = 0; e < count; e += kWidth) {
    const auto put = [e](S* to, V value) { store<kWidth, S, S>(to + e, value); };
    const auto put_index = [e](int32_t* to, auto value) {
      const auto narrow = __builtin_convertvector(value, Vec<int32_t, kWidth>);
      std::memcpy(to + e, &narrow, sizeof(narrow));
    };
    const Axis<S> x(start_x + load<kWidth>(points.origin_x + e) + load<kWidth>(points.x + e) * scale, width);
    const Axis<S> y(start_y + load<kWidth>(points.origin_y + e) + load<kWidth>(points.y + e) * scale, height);
    const V mask = load<kWidth>(points.mask + e), near = y.near * mask, far = y.far * mask;
    put(points.weight[0], near * x.near);
    put(points.weight[1], near * x.far);
    put(points.weight[2], far * x.near);
    put(points.weight[3], far * x.far);
    const auto above = y.near_index * width, below = y.far_index * width;
    put_index(points.corner[0], (above + x.near_index) | ~(x.reaches & y.reaches)); // -1 where all are outside
    put_index(points.corner[1], above + x.far_index);
    put_index(points.corner[2], below + x.near_index);
    put_index(points.corner[3], below + x.far_index);
    if constexpr (Backward) {
      put(points.left, x.near);
      put(points.right, x.far);
      put(points.upper, y.near);
      put(points.lower, y.far);
      put(points.inside[0], x.near_inside);
      put(points.inside[1], x.far_inside);
      put(points.inside[2], y.near_inside);
      put(points.inside[3], y.far_inside);
    }
  }
}

// Step 2 forward: Chunk channels of one pixel and group, summed over its taps from point number e on.
template <int Chunk, class T, class S>
inline __attribute__((always_inline)) void gather(
    const Points<S>& points, int64_t e, int64_t taps, int64_t channels, const T* input, T* out) {
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

// Step 2 backward: dot products of the output gradient with the corners, and its weighted copies into theirs.
template <int Chunk, class T, class S>
inline __attribute__((always_inline)) void scatter(
    const Points<S>& points, int64_t e, int64_t taps, int64_t channels, const T* input, const T* grad_out,
    S* grad_input, bool first) {
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

// Step 3 backward: gradients of offsets and modulation of `count` points from the dot products.
template <class T, class S>
inline void reduce_points(
    const Points<S>& points, int64_t start, int64_t count, S scale, T* __restrict grad_offset,
    T* __restrict grad_mask) {
  const S* __restrict dots = points.dots + 4 * start;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t e = start + i;
    const S d0 = dots[4 * i], d1 = dots[4 * i + 1], d2 = dots[4 * i + 2], d3 = dots[4 * i + 3];
    const S left = points.left[e], right = points.right[e], upper = points.upper[e], lower = points.lower[e];
    const S along_x = points.inside[1][e] * (upper * d1 + lower * d3) - points.inside[0][e] * (upper * d0 + lower * d2);
    const S along_y = points.inside[3][e] * (left * d2 + right * d3) - points.inside[2][e] * (left * d0 + right * d1);
    grad_mask[i] = static_cast<T>(upper * (left * d0 + right * d1) + lower * (left * d2 + right * d3));
    grad_offset[2 * i] = static_cast<T>(along_x * points.mask[e] * scale);
    grad_offset[2 * i + 1] = static_cast<T>(along_y * points.mask[e] * scale);
  }
}

// Calls body(integral constant, first channel) for the chunks of 32, 16, 8, 4 and 1 channels of a group.
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

// Output of a block.
template <class T>
void forward_block(
    const Points<typename Compute<T>::type>& points, const Geometry& geometry, const Block& block, const T* image,
    const T* offset, const T* mask, T* out) {
  using S = typename Compute<T>::type;
  const int64_t taps = geometry.taps(), all = geometry.group * taps, some = block.groups * taps;
  const int64_t channels = geometry.channels(), width = geometry.group_channels;
  const T* from_offset = offset + (block.first * geometry.group + block.group) * taps * 2;
  const T* from_mask = mask + (block.first * geometry.group + block.group) * taps;
  if (some == all) {
    load_points<S, T>(points, from_offset, from_mask, 0, block.pixels * all);
  } else {
    for (int64_t pixel = 0; pixel < block.pixels; ++pixel) {
      load_points<S, T>(points, from_offset + pixel * all * 2, from_mask + pixel * all, pixel * some, some);
    }
  }
  place_points<false, S>(
      points, block.pixels * some, block.start_x, block.start_y, geometry.offset_scale, block.height, block.width);
  int64_t e = 0;
  for (int64_t pixel = 0; pixel < block.pixels; ++pixel) {
    for (int64_t group = block.group; group < block.group + block.groups; ++group, e += taps) {
      const T* from = image + group * width;
      T* to = out + (block.first + pixel) * channels + group * width;
      for_chunks(width, [&](auto chunk, int64_t c) { gather<chunk()>(points, e, taps, channels, from + c, to + c); });
    }
  }
}

// Gradients of a block. grad_image is accumulated into; the gradients of offsets and modulation are written.
template <class T>
void backward_block(
    const Points<typename Compute<T>::type>& points, const Geometry& geometry, const Block& block, const T* image,
    const T* offset, const T* mask, const T* grad_out, typename Compute<T>::type* grad_image, T* grad_offset,
    T* grad_mask) {
  using S = typename Compute<T>::type;
  const int64_t taps = geometry.taps(), all = geometry.group * taps, some = block.groups * taps;
  const int64_t channels = geometry.channels(), width = geometry.group_channels;
  const int64_t at = (block.first * geometry.group + block.group) * taps;
  const int64_t runs = some == all ? 1 : block.pixels, run = some == all ? block.pixels * all : some;
  for (int64_t i = 0; i < runs; ++i) {
    load_points<S, T>(points, offset + (at + i * all) * 2, mask + at + i * all, i * run, run);
  }
  place_points<true, S>(
      points, block.pixels * some, block.start_x, block.start_y, geometry.offset_scale, block.height, block.width);
  int64_t e = 0;
  for (int64_t pixel = 0; pixel < block.pixels; ++pixel) {
    for (int64_t group = block.group; group < block.group + block.groups; ++group, e += taps) {
      const T* from = grad_out + (block.first + pixel) * channels + group * width;
      for_chunks(width, [&](auto chunk, int64_t c) {
        scatter<chunk()>(
            points, e, taps, channels, image + group * width + c, from + c, grad_image + group * width + c, c == 0);
      });
    }
  }
  for (int64_t i = 0; i < runs; ++i) {
    reduce_points<T, S>(
        points, i * run, run, geometry.offset_scale, grad_offset + (at + i * all) * 2, grad_mask + at + i * all);
  }
}
