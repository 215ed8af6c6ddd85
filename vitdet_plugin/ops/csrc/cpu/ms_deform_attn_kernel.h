// Multi-scale deformable attention for one instruction set; compiled several times by each_isa.h.
//
// Work is split into blocks: a range of queries and of planes, which are pairs of a head and a level. Step 1 turns the
// locations and weights of a block into addresses and weights of corners, one lane per sampling point; step 2 iterates
// over the points, one lane per channel. Corners outside a map get the weight 0 and the address of a corner inside, so
// no other pixel is read.
#include "bilinear.h"

// The results of step 1 for each sampling point of a block, and the maps that the points of its planes lie in.
template <class S>
struct Points {
  S* left;       // (1 - fraction of x), 0 if the left corners are outside
  S* right;      // fraction of x, 0 if the right corners are outside
  S* upper;
  S* lower;
  S* inside[4];  // 1 or 0: left, right, upper, lower corners are inside; for the backward pass
  S* weight[4];  // bilinear weight times attention weight: upper left, upper right, lower left, lower right
  S* x;          // location, as loaded
  S* y;
  S* modulation; // attention weight, as loaded
  S* width;      // of the map
  S* height;
  S* dots;       // 4 per point: output gradient times each corner
  int32_t* corner[4];  // pixel of each corner within the image; corner[0] is negative if the point does not count
  int32_t* start;      // first pixel of the map

  Points(void* memory, int64_t capacity) {
    auto* numbers = static_cast<S*>(memory);
    for (S** array : {&left, &right, &upper, &lower, &inside[0], &inside[1], &inside[2], &inside[3], &weight[0],
                      &weight[1], &weight[2], &weight[3], &x, &y, &modulation, &width, &height, &dots}) {
      *array = numbers, numbers += capacity;
    }
    auto* indices = reinterpret_cast<int32_t*>(numbers + 3 * capacity); // after the dot products
    for (int32_t** array : {&corner[0], &corner[1], &corner[2], &corner[3], &start}) {
      *array = indices, indices += capacity;
    }
  }
};

// Sets the maps of all points of blocks with these planes.
template <class S>
inline void fill_maps(const Points<S>& points, const Shape& shape, const Block& block) {
  int64_t e = 0;
  for (int64_t row = 0; row < block.rows; ++row) {
    for (int64_t plane = block.plane; plane < block.plane + block.planes; ++plane) {
      const Level& level = shape.levels[plane % shape.num_levels()];
      for (int64_t point = 0; point < shape.points; ++point, ++e) {
        points.width[e] = level.width;
        points.height[e] = level.height;
        points.start[e] = level.start;
      }
    }
  }
}

// One axis: weights of the near and far corners (0 outside) and their indices (clamped to the map). The weights of a
// location that is not finite are NaN.
template <class S>
struct Axis {
  using V = Vec<S, kLanes<S>>;
  using I = Vec<std::conditional_t<sizeof(S) == 4, int32_t, int64_t>, kLanes<S>>;
  V near, far, near_inside, far_inside;
  I near_index, far_index, reaches, undefined;

  // Both roundings of the location are those of grid_sample(2 * location - 1), so that locations on a pixel lie on the
  // same side of it.
  inline __attribute__((always_inline)) Axis(V location, V size) {
    const V zero{}, one = zero + S(1), least = zero - S(2);
    const V position = ((location * S(2) - S(1)) + S(1)) * (size * S(0.5)) - S(0.5);
    const V raised = position < least ? least : position;
    const V bounded = raised > size ? size : raised;
    const V number = bounded == bounded ? bounded : zero;
    I floor = __builtin_convertvector(number, I);
    floor += number < __builtin_convertvector(floor, V); // true is -1
    const I last = __builtin_convertvector(size, I) - 1;
    const V fraction = bounded - __builtin_convertvector(floor, V);
    const I near_in = (floor >= 0) & (floor <= last), far_in = (floor >= -1) & (floor < last);
    undefined = ~((position - position) == zero);
    near_inside = near_in ? one : zero;
    far_inside = far_in ? one : zero;
    near = (one - fraction) * near_inside + (position - position);
    far = fraction * far_inside;
    const I far_floor = floor + 1;
    near_index = floor < 0 ? I{} : floor > last ? last : floor;
    far_index = far_floor < 0 ? I{} : far_floor > last ? last : far_floor;
    reaches = (near_in | far_in) & ~undefined;
  }
};

// Step 1 for `count` points that have been loaded; arrays are padded to whole registers. Points that do not count are
// skipped, but forward those whose result is NaN count: locations that are not finite and weights that are not, which
// are multiplied by samples outside the map.
template <bool Backward, class S>
inline void place_points(const Points<S>& points, int64_t count) {
  constexpr int kWidth = kLanes<S>;
  using V = Vec<S, kWidth>;
  for (int64_t e = 0; e < count; e += kWidth) {
    const auto put = [e](S* to, V value) { store<kWidth, S, S>(to + e, value); };
    const auto put_index = [e](int32_t* to, auto value) {
      const auto narrow = __builtin_convertvector(value, Vec<int32_t, kWidth>);
      std::memcpy(to + e, &narrow, sizeof(narrow));
    };
    using I = typename Axis<S>::I;
    const V width_number = load<kWidth>(points.width + e), height_number = load<kWidth>(points.height + e);
    const Axis<S> x(load<kWidth>(points.x + e), width_number), y(load<kWidth>(points.y + e), height_number);
    const V attention = load<kWidth>(points.modulation + e), near = y.near * attention, far = y.far * attention;
    put(points.weight[0], near * x.near);
    put(points.weight[1], near * x.far);
    put(points.weight[2], far * x.near);
    put(points.weight[3], far * x.far);
    Vec<int32_t, kWidth> narrow_start;
    std::memcpy(&narrow_start, points.start + e, sizeof(narrow_start));
    const I start = __builtin_convertvector(narrow_start, I), width = __builtin_convertvector(width_number, I);
    const I above = start + y.near_index * width, below = start + y.far_index * width;
    I counts = x.reaches & y.reaches;
    if constexpr (!Backward) {
      counts |= x.undefined | y.undefined | ~((attention - attention) == V{});
    }
    counts &= (width_number > S(0)) & (height_number > S(0)); // a map may be empty
    put_index(points.corner[0], (above + x.near_index) | ~counts); // -1 for points that do not count
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

// Step 3 backward: gradients of the locations and attention weights of `count` points from the dot products.
template <class T, class S>
inline void reduce_points(
    const Points<S>& points, int64_t start, int64_t count, T* __restrict grad_location, T* __restrict grad_attention) {
  const S* __restrict dots = points.dots + 4 * start;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t e = start + i;
    const PointGradient<S, Points<S>> gradient(points, e, dots + 4 * i);
    grad_attention[i] = static_cast<T>(gradient.weight);
    grad_location[2 * i] = static_cast<T>(gradient.x * points.modulation[e] * points.width[e]);
    grad_location[2 * i + 1] = static_cast<T>(gradient.y * points.modulation[e] * points.height[e]);
  }
}

// Output of a block of all planes; its queries may belong to several images.
template <class T>
void forward_block(
    const Points<typename Compute<T>::type>& points, const Shape& shape, const Block& block, const T* value,
    const T* location, const T* attention, T* out) {
  const int64_t taps = shape.num_levels() * shape.points, row_points = shape.heads * taps;
  load_points(points, location + block.row * row_points * 2, attention + block.row * row_points, 0,
              block.rows * row_points);
  place_points<false>(points, block.rows * row_points);
  int64_t e = 0;
  for (int64_t row = block.row; row < block.row + block.rows; ++row) {
    const T* image = value + row / shape.queries * shape.pixels * shape.width();
    for (int64_t head = 0; head < shape.heads; ++head, e += taps) {
      const T* from = image + head * shape.channels;
      T* to = out + row * shape.width() + head * shape.channels;
      for_chunks(shape.channels, [&](auto chunk, int64_t c) {
        gather<chunk()>(points, e, taps, shape.width(), from + c, to + c);
      });
    }
  }
}

// Gradients of a block whose queries belong to one image. grad_image is accumulated into; the gradients of locations and
// attention weights are written.
template <class T>
void backward_block(
    const Points<typename Compute<T>::type>& points, const Shape& shape, const Block& block, const T* image,
    const T* location, const T* attention, const T* grad_out, typename Compute<T>::type* grad_image, T* grad_location,
    T* grad_attention) {
  const int64_t levels = shape.num_levels(), row_points = shape.heads * levels * shape.points;
  const int64_t some = block.planes * shape.points, at = block.row * row_points + block.plane * shape.points;
  const int64_t runs = some == row_points ? 1 : block.rows, run = some == row_points ? block.rows * some : some;
  for (int64_t i = 0; i < runs; ++i) {
    load_points(points, location + (at + i * row_points) * 2, attention + at + i * row_points, i * run, run);
  }
  place_points<true>(points, block.rows * some);
  int64_t e = 0;
  for (int64_t row = block.row; row < block.row + block.rows; ++row) {
    for (int64_t plane = block.plane, last = plane + block.planes; plane < last;) {
      const int64_t head = plane / levels, count = std::min(last, (head + 1) * levels) - plane;
      const int64_t first = head * shape.channels, taps = count * shape.points;
      for_chunks(shape.channels, [&](auto chunk, int64_t c) {
        scatter<chunk()>(points, e, taps, shape.width(), image + first + c, grad_out + row * shape.width() + first + c,
                         grad_image + first + c, c == 0);
      });
      e += taps, plane += count;
    }
  }
  for (int64_t i = 0; i < runs; ++i) {
    reduce_points<T>(points, i * run, run, grad_location + (at + i * row_points) * 2,
                     grad_attention + at + i * row_points);
  }
}
