// DCNv3 on channels-last tensors for one instruction set; compiled several times by each_isa.h.
//
// Work is split into blocks: a range of output pixels of one row and of groups. Step 1 turns offsets and modulation of
// a block into addresses and weights, one lane per sampling point; step 2 iterates over the points, one lane per
// channel. Corners outside the input get the weight 0 and the address of a corner inside, so no other pixel is read.
#include "bilinear.h"

// The results of step 1 for each sampling point of a block.
template <class S>
struct Points {
  S* x;          // offsets, as loaded
  S* y;
  S* modulation;  // as loaded
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
    for (S** array : {&x, &y, &modulation, &left, &right, &upper, &lower, &inside[0], &inside[1], &inside[2],
                      &inside[3], &weight[0], &weight[1], &weight[2], &weight[3], &origin_x, &origin_y, &dots}) {
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
    const V mask = load<kWidth>(points.modulation + e), near = y.near * mask, far = y.far * mask;
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

// Step 3 backward: gradients of offsets and modulation of `count` points from the dot products.
template <class T, class S>
inline void reduce_points(
    const Points<S>& points, int64_t start, int64_t count, S scale, T* __restrict grad_offset,
    T* __restrict grad_mask) {
  const S* __restrict dots = points.dots + 4 * start;
  for (int64_t i = 0; i < count; ++i) {
    const PointGradient<S, Points<S>> gradient(points, start + i, dots + 4 * i);
    const S factor = points.modulation[start + i] * scale;
    grad_mask[i] = static_cast<T>(gradient.weight);
    grad_offset[2 * i] = static_cast<T>(gradient.x * factor);
    grad_offset[2 * i + 1] = static_cast<T>(gradient.y * factor);
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
    load_points(points, from_offset, from_mask, 0, block.pixels * all);
  } else {
    for (int64_t pixel = 0; pixel < block.pixels; ++pixel) {
      load_points(points, from_offset + pixel * all * 2, from_mask + pixel * all, pixel * some, some);
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
    load_points(points, offset + (at + i * all) * 2, mask + at + i * all, i * run, run);
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
