// Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, equation 3) on the CPU: checks, and how the work
// is split among threads. The arithmetic is in ms_deform_attn_kernel.h.
//
// value: (N, S, heads, C), S pixels of all levels; spatial_shapes: (levels, 2), height and width of each level;
// locations: (N, Q, heads, levels, points, 2), x and y in fractions of a map; weights: (N, Q, heads, levels, points).
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <tuple>
#include <vector>

namespace vitdet_plugin {

namespace {

struct Level {
  int64_t height, width, start; // start: number of pixels of the levels before
};

struct Shape {
  int64_t batch, pixels, heads, channels, queries, points; // channels of a head, points of a level
  std::vector<Level> levels;
  int64_t num_levels() const { return static_cast<int64_t>(levels.size()); }
  int64_t planes() const { return heads * num_levels(); }
  int64_t width() const { return heads * channels; }
};

// A range of queries of the whole batch and of planes (pairs of a head and a level, the level being the inner one).
struct Block {
  int64_t row, rows, plane, planes;
};

#define KERNEL_FILE "ms_deform_attn_kernel.h"
#include "each_isa.h"

constexpr int64_t kPoints = 512; // approximate size of a block; the results of step 1 fit the L1 cache

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t rows_of_block(int64_t row_points, int64_t rows) {
  return std::clamp<int64_t>(kPoints / std::max<int64_t>(row_points, 1), 1, std::max<int64_t>(rows, 1));
}

// Memory of the points of one block.
template <class S>
struct Scratch {
  int64_t capacity;
  std::unique_ptr<int64_t[]> memory;
  // An odd number of cache lines, so that the arrays of points do not map to the same cache sets.
  explicit Scratch(int64_t points)
      : capacity(ceil_div(points, 32) * 32 + 16),
        memory(new int64_t[capacity * (21 * sizeof(S) + 5 * sizeof(int32_t)) / sizeof(int64_t) + 1]()) {}
};

Shape checked_shape(
    const at::Tensor& value, const at::Tensor& spatial_shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  TORCH_CHECK_VALUE(
      value.dim() == 4, "ms_deform_attn: value has shape ", value.sizes(), "; expected (N, S, heads, C)");
  TORCH_CHECK_VALUE(
      spatial_shapes.dim() == 2 && spatial_shapes.size(1) == 2 && spatial_shapes.scalar_type() == at::kLong &&
          spatial_shapes.device().is_cpu(),
      "ms_deform_attn: spatial_shapes is ", spatial_shapes.scalar_type(), " ", spatial_shapes.sizes(),
      "; expected int64 (levels, 2) on the CPU");
  const int64_t levels = spatial_shapes.size(0), queries = locations.dim() == 6 ? locations.size(1) : 0;
  const int64_t points = locations.dim() == 6 ? locations.size(4) : 0;
  const auto expected = {value.size(0), queries, value.size(2), levels, points};
  TORCH_CHECK_VALUE(
      locations.dim() == 6 && locations.size(5) == 2 &&
          locations.sizes().slice(0, 5) == at::IntArrayRef(expected) && weights.sizes() == at::IntArrayRef(expected),
      "ms_deform_attn: locations has shape ", locations.sizes(), " and weights ", weights.sizes(), "; value ",
      value.sizes(), " and ", levels, " levels require (N, queries, heads, levels, points, 2) and the same without 2");
  TORCH_CHECK_TYPE(
      value.scalar_type() == locations.scalar_type() && value.scalar_type() == weights.scalar_type(),
      "ms_deform_attn: value, locations and weights have different types: ", value.scalar_type(), ", ",
      locations.scalar_type(), ", ", weights.scalar_type());
  Shape shape{value.size(0), value.size(1), value.size(2), value.size(3), queries, points, {}};
  const auto sizes = spatial_shapes.contiguous();
  const int64_t* size = sizes.const_data_ptr<int64_t>();
  int64_t start = 0;
  for (int64_t level = 0; level < levels; ++level) {
    const int64_t height = size[2 * level], width = size[2 * level + 1];
    TORCH_CHECK_VALUE(
        height >= 0 && width >= 0, "ms_deform_attn: level ", level, " has the size ", height, " x ", width);
    shape.levels.push_back({height, width, start});
    start += height * width;
  }
  TORCH_CHECK_VALUE(
      start == value.size(1), "ms_deform_attn: the levels of spatial_shapes have ", start, " pixels, value has ",
      value.size(1));
  TORCH_CHECK_VALUE(
      start < std::numeric_limits<int32_t>::max(), "ms_deform_attn: value has more than 2^31 pixels in an image");
  return shape;
}

template <class T>
void forward(const Shape& shape, const at::Tensor& value, const at::Tensor& locations, const at::Tensor& weights,
             const at::Tensor& out) {
  using S = typename isa_base::Compute<T>::type;
  const int64_t rows = shape.batch * shape.queries, row_points = shape.planes() * shape.points;
  const int64_t block_rows = rows_of_block(row_points, rows);
  const T* from = value.const_data_ptr<T>();
  const T* from_location = locations.const_data_ptr<T>();
  const T* from_weight = weights.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, ceil_div(rows, block_rows), 1, [&](int64_t begin, int64_t end) {
    const Scratch<S> scratch(block_rows * row_points);
    const auto run = [&](auto points, auto fill, auto body) {
      fill(points, shape, Block{0, block_rows, 0, shape.planes()});
      for (int64_t row = begin * block_rows; row < std::min(end * block_rows, rows); row += block_rows) {
        const Block block{row, std::min(block_rows, rows - row), 0, shape.planes()};
        body(points, shape, block, from, from_location, from_weight, to);
      }
    };
#define VITDET_RUN(isa) \
  run(isa::Points<S>(scratch.memory.get(), scratch.capacity), isa::fill_maps<S>, isa::forward_block<T>)
    VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
  });
}

// Units of work are (image, range of planes). Their slices of all three gradients are disjoint and each is summed in the
// order of the queries, so the result does not depend on the number of threads.
template <class T>
void backward(const Shape& shape, const at::Tensor& grad, const at::Tensor& value, const at::Tensor& locations,
              const at::Tensor& weights, const at::Tensor& grad_value, const at::Tensor& grad_locations,
              const at::Tensor& grad_weights) {
  using S = typename isa_base::Compute<T>::type;
  const int64_t image_size = shape.pixels * shape.width(), planes = shape.planes();
  const int64_t slices = std::min(planes, ceil_div(at::get_num_threads(), std::max<int64_t>(shape.batch, 1)));
  const int64_t most_points = ceil_div(planes, std::max<int64_t>(slices, 1)) * shape.points;
  const int64_t block_rows = rows_of_block(most_points, shape.queries);
  const T* from = value.const_data_ptr<T>();
  const T* from_grad = grad.const_data_ptr<T>();
  const T* from_location = locations.const_data_ptr<T>();
  const T* from_weight = weights.const_data_ptr<T>();
  S* to = grad_value.mutable_data_ptr<S>();
  T* to_location = grad_locations.mutable_data_ptr<T>();
  T* to_weight = grad_weights.mutable_data_ptr<T>();
  at::parallel_for(0, shape.batch * slices, 1, [&](int64_t begin, int64_t end) {
    const Scratch<S> scratch(block_rows * most_points);
    const auto run = [&](auto points, auto fill, auto body) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / slices, slice = i % slices;
        const int64_t plane = planes * slice / slices, some = planes * (slice + 1) / slices - plane;
        fill(points, shape, Block{0, block_rows, plane, some});
        for (int64_t query = 0; query < shape.queries; query += block_rows) {
          const Block block{
              image * shape.queries + query, std::min(block_rows, shape.queries - query), plane, some};
          body(points, shape, block, from + image * image_size, from_location, from_weight, from_grad,
               to + image * image_size, to_location, to_weight);
        }
      }
    };
#define VITDET_RUN(isa) \
  run(isa::Points<S>(scratch.memory.get(), scratch.capacity), isa::fill_maps<S>, isa::backward_block<T>)
    VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
  });
}

at::Tensor ms_deform_attn_cpu(
    const at::Tensor& value, const at::Tensor& spatial_shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  const Shape shape = checked_shape(value, spatial_shapes, locations, weights);
  auto out = at::empty({shape.batch, shape.queries, shape.width()}, value.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "ms_deform_attn_cpu", [&] {
    forward<scalar_t>(shape, value.contiguous(), locations.contiguous(), weights.contiguous(), out);
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> ms_deform_attn_backward_cpu(
    const at::Tensor& grad, const at::Tensor& value, const at::Tensor& spatial_shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  const Shape shape = checked_shape(value, spatial_shapes, locations, weights);
  TORCH_CHECK_VALUE(
      grad.sizes() == at::IntArrayRef({shape.batch, shape.queries, shape.width()}) &&
          grad.scalar_type() == value.scalar_type(),
      "ms_deform_attn: the shape or type of the output's gradient does not match");
  const auto sum_type = value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto grad_value = at::zeros(value.sizes(), value.options().dtype(sum_type));
  const auto grad_locations = at::empty(locations.sizes(), locations.options());
  const auto grad_weights = at::empty(weights.sizes(), weights.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "ms_deform_attn_backward_cpu", [&] {
    backward<scalar_t>(
        shape, grad.contiguous(), value.contiguous(), locations.contiguous(), weights.contiguous(), grad_value,
        grad_locations, grad_weights);
  });
  return {grad_value.to(value.scalar_type()), grad_locations, grad_weights};
}

// As grid_sample under autocast: in float32 at least.
template <c10::DispatchKey Key>
at::Tensor ms_deform_attn_autocast(
    const at::Tensor& value, const at::Tensor& spatial_shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(Key);
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("vitdet_plugin::ms_deform_attn", "")
          .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&)>();
  auto widest = at::kFloat;
  for (const auto* tensor : {&value, &locations, &weights}) {
    widest = c10::promoteTypes(widest, tensor->scalar_type());
  }
  return op.call(value.to(widest), spatial_shapes, locations.to(widest), weights.to(widest));
}

} // namespace

TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m) {
  m.def("ms_deform_attn(Tensor value, Tensor spatial_shapes, Tensor locations, Tensor weights) -> Tensor");
  m.def(
      "ms_deform_attn_backward(Tensor grad, Tensor value, Tensor spatial_shapes, Tensor locations, Tensor weights) "
      "-> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(vitdet_plugin, CPU, m) {
  m.impl("ms_deform_attn", ms_deform_attn_cpu);
  m.impl("ms_deform_attn_backward", ms_deform_attn_backward_cpu);
}

TORCH_LIBRARY_IMPL(vitdet_plugin, AutocastCPU, m) {
  m.impl("ms_deform_attn", ms_deform_attn_autocast<c10::DispatchKey::AutocastCPU>);
}

TORCH_LIBRARY_IMPL(vitdet_plugin, AutocastCUDA, m) {
  m.impl("ms_deform_attn", ms_deform_attn_autocast<c10::DispatchKey::AutocastCUDA>);
}

// a gradient through it is an error, not zero
TORCH_LIBRARY_IMPL(vitdet_plugin, Autograd, m) {
  m.impl("ms_deform_attn_backward", torch::autograd::autogradNotImplementedFallback());
}

} // namespace vitdet_plugin
