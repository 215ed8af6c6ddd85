// DCNv3 on the CPU: how the work is split among threads. The arithmetic is in dcnv3_kernel.h.
#include "../dcnv3.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cstdlib>
#include <memory>
#include <vector>

namespace vitdet_plugin {

namespace {

// A range of output pixels of one row and of groups.
struct Block {
  int64_t first, pixels; // pixel index within the whole batch
  int64_t group, groups;
  int32_t height, width; // of the input
  int64_t start_x, start_y; // column and row of the first output pixel, times the stride
};

#define KERNEL_FILE "dcnv3_kernel.h"
#include "each_isa.h"

constexpr int64_t kPoints = 512; // approximate size of a block; the results of step 1 fit the L1 cache

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// How blocks tile rows and groups.
struct Tiling {
  int64_t groups, pixels; // of a block
  Tiling(const Geometry& geometry, int64_t available_groups, int64_t out_width)
      : groups(std::clamp<int64_t>(kPoints / geometry.taps(), 1, available_groups)),
        pixels(std::clamp<int64_t>(kPoints / (geometry.taps() * groups), 1, out_width)) {}
  // An odd number of cache lines, so that the arrays of points do not map to the same cache sets.
  int64_t capacity(const Geometry& geometry) const {
    return ceil_div(pixels * groups * geometry.taps(), 32) * 32 + 16;
  }
};

template <class S>
struct Scratch {
  std::unique_ptr<int64_t[]> memory;
  explicit Scratch(int64_t capacity)
      : memory(new int64_t[capacity * (21 * sizeof(S) + 4 * sizeof(int32_t)) / sizeof(int64_t)]()) {}
};

template <class T>
void forward(const Geometry& geometry, const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask,
             const at::Tensor& out) {
  using S = typename isa_base::Compute<T>::type;
  const int64_t height = input.size(1), width = input.size(2), rows = out.size(1), columns = out.size(2);
  const int64_t image_size = height * width * geometry.channels();
  const Tiling tiling(geometry, geometry.group, columns);
  const int64_t across = ceil_div(columns, tiling.pixels);
  const T* from = input.const_data_ptr<T>();
  const T* from_offset = offset.const_data_ptr<T>();
  const T* from_mask = mask.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, input.size(0) * rows * across, 1, [&](int64_t begin, int64_t end) {
    const Scratch<S> scratch(tiling.capacity(geometry));
    const auto run = [&](auto points, auto fill, auto body) {
      fill(points, geometry, tiling.pixels, tiling.groups);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / across, column = i % across * tiling.pixels; // row of the whole batch
        for (int64_t group = 0; group < geometry.group; group += tiling.groups) {
          const Block block{
              row * columns + column, std::min(tiling.pixels, columns - column), group,
              std::min(tiling.groups, geometry.group - group), static_cast<int32_t>(height),
              static_cast<int32_t>(width), column * geometry.stride_w, row % rows * geometry.stride_h};
          body(points, geometry, block, from + row / rows * image_size, from_offset, from_mask, to);
        }
      }
    };
#define VITDET_RUN(isa) \
  run(isa::Points<S>(scratch.memory.get(), tiling.capacity(geometry)), isa::fill_origins<S>, isa::forward_block<T>)
    VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
  });
}

// Units of work are (image, range of groups): their slices of all three gradients are disjoint, so no two threads write
// to the same address and sums have a fixed order. If there are fewer units than threads, rows are split into bands as
// well, each with a separate input gradient; these are added in order.
template <class T>
void backward(const Geometry& geometry, const at::Tensor& grad, const at::Tensor& input, const at::Tensor& offset,
              const at::Tensor& mask, at::Tensor& grad_input, const at::Tensor& grad_offset,
              const at::Tensor& grad_mask) {
  using S = typename isa_base::Compute<T>::type;
  const int64_t batch = input.size(0), height = input.size(1), width = input.size(2);
  const int64_t rows = grad.size(1), columns = grad.size(2);
  const int64_t image_size = height * width * geometry.channels();
  const int64_t threads = at::get_num_threads();
  const int64_t slices = std::min(geometry.group, ceil_div(threads, std::max<int64_t>(batch, 1)));
  const int64_t slice_groups = ceil_div(geometry.group, slices);
  const int64_t bands = std::min(rows, std::max<int64_t>(threads / std::max<int64_t>(batch * slices, 1), 1));
  const Tiling tiling(geometry, slice_groups, columns);
  std::vector<at::Tensor> sums{grad_input};
  for (int64_t band = 1; band < bands; ++band) {
    sums.push_back(at::zeros(grad_input.sizes(), grad_input.options()));
  }
  const T* from = input.const_data_ptr<T>();
  const T* from_grad = grad.const_data_ptr<T>();
  const T* from_offset = offset.const_data_ptr<T>();
  const T* from_mask = mask.const_data_ptr<T>();
  T* to_offset = grad_offset.mutable_data_ptr<T>();
  T* to_mask = grad_mask.mutable_data_ptr<T>();
  at::parallel_for(0, batch * slices * bands, 1, [&](int64_t begin, int64_t end) {
    const Scratch<S> scratch(tiling.capacity(geometry));
    const auto run = [&](auto points, auto fill, auto body) {
      fill(points, geometry, tiling.pixels, tiling.groups);
      int64_t filled = tiling.groups;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t band = i % bands, slice = i / bands % slices, image = i / bands / slices;
        S* to = sums[band].template mutable_data_ptr<S>() + image * image_size;
        const int64_t last_group = std::min((slice + 1) * slice_groups, geometry.group);
        for (int64_t row = rows * band / bands; row < rows * (band + 1) / bands; ++row) {
          for (int64_t column = 0; column < columns; column += tiling.pixels) {
            for (int64_t group = slice * slice_groups; group < last_group; group += tiling.groups) {
              const int64_t groups = std::min(tiling.groups, last_group - group);
              if (groups != filled) {
                fill(points, geometry, tiling.pixels, groups);
                filled = groups;
              }
              const Block block{
                  (image * rows + row) * columns + column, std::min(tiling.pixels, columns - column), group, groups,
                  static_cast<int32_t>(height), static_cast<int32_t>(width), column * geometry.stride_w,
                  row * geometry.stride_h};
              body(points, geometry, block, from + image * image_size, from_offset, from_mask, from_grad, to,
                   to_offset, to_mask);
            }
          }
        }
      }
    };
#define VITDET_RUN(isa) \
  run(isa::Points<S>(scratch.memory.get(), tiling.capacity(geometry)), isa::fill_origins<S>, isa::backward_block<T>)
    VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
  });
  for (int64_t band = 1; band < bands; ++band) {
    grad_input.add_(sums[band]);
  }
}

at::Tensor dcnv3_cpu(
    const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask, at::IntArrayRef kernel,
    at::IntArrayRef stride, at::IntArrayRef pad, at::IntArrayRef dilation, int64_t group, int64_t group_channels,
    double offset_scale, bool remove_center) {
  const Geometry geometry = checked_geometry(
      input, offset, mask, kernel, stride, pad, dilation, group, group_channels, offset_scale, remove_center);
  auto out = at::empty({input.size(0), offset.size(1), offset.size(2), input.size(3)}, input.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "dcnv3_cpu", [&] {
    forward<scalar_t>(geometry, input.contiguous(), offset.contiguous(), mask.contiguous(), out);
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> dcnv3_backward_cpu(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask,
    at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef pad, at::IntArrayRef dilation, int64_t group,
    int64_t group_channels, double offset_scale, bool remove_center) {
  const Geometry geometry = checked_geometry(
      input, offset, mask, kernel, stride, pad, dilation, group, group_channels, offset_scale, remove_center);
  TORCH_CHECK_VALUE(
      grad.sizes() == at::IntArrayRef({input.size(0), offset.size(1), offset.size(2), input.size(3)}) &&
          grad.scalar_type() == input.scalar_type(),
      "dcnv3: the shape or type of the output's gradient does not match");
  const auto sum_type = input.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  auto grad_input = at::zeros(input.sizes(), input.options().dtype(sum_type));
  auto grad_offset = at::empty(offset.sizes(), offset.options());
  auto grad_mask = at::empty(mask.sizes(), mask.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "dcnv3_backward_cpu", [&] {
    backward<scalar_t>(
        geometry, grad.contiguous(), input.contiguous(), offset.contiguous(), mask.contiguous(), grad_input,
        grad_offset, grad_mask);
  });
  return {grad_input.to(input.scalar_type()), grad_offset, grad_mask};
}

} // namespace

TORCH_LIBRARY_IMPL(vitdet_plugin, CPU, m) {
  m.impl("dcnv3", dcnv3_cpu);
  m.impl("dcnv3_backward", dcnv3_backward_cpu);
}

} // namespace vitdet_plugin
