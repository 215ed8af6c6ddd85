// DCNv3 on CUDA devices. Compiled with nvcc for sm_80 and sm_90, but not yet run on a GPU.
//
// One thread computes one output number (or its share of the gradients); neighboring threads are neighboring channels,
// so that corners are read in whole cache lines. Values are stored as scalar_t and computed in float (double for
// double).
#include "../dcnv3.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

namespace vitdet_plugin {

namespace {

constexpr int kThreads = 256;

// Geometry arguments of a kernel.
struct KernelGeometry {
  int height, width, rows, columns; // input, output
  int kernel_h, stride_h, stride_w, dilation_h, dilation_w;
  int group, group_channels, taps;
  int middle; // index of the tap left out, in columns-first order; the number of cells if there is none
  float first_x, first_y; // of tap 0 for output pixel (0, 0); multiples of half a pixel times the scale
  float scale;
  double first_x_exact, first_y_exact, scale_exact;
};

KernelGeometry kernel_geometry(const Geometry& geometry, const at::Tensor& input, const at::Tensor& offset) {
  const double scale = geometry.offset_scale;
  const double first_x = ((geometry.dilation_w * (geometry.kernel_w - 1)) >> 1) * (1 - scale) - geometry.pad_w;
  const double first_y = ((geometry.dilation_h * (geometry.kernel_h - 1)) >> 1) * (1 - scale) - geometry.pad_h;
  const int64_t cells = geometry.kernel_h * geometry.kernel_w;
  return KernelGeometry{
      static_cast<int>(input.size(1)), static_cast<int>(input.size(2)), static_cast<int>(offset.size(1)),
      static_cast<int>(offset.size(2)), static_cast<int>(geometry.kernel_h), static_cast<int>(geometry.stride_h),
      static_cast<int>(geometry.stride_w), static_cast<int>(geometry.dilation_h),
      static_cast<int>(geometry.dilation_w), static_cast<int>(geometry.group),
      static_cast<int>(geometry.group_channels), static_cast<int>(geometry.taps()),
      static_cast<int>(geometry.remove_center ? cells / 2 : cells), static_cast<float>(first_x),
      static_cast<float>(first_y), static_cast<float>(scale), first_x, first_y, scale};
}

template <class S>
struct Scalars;
template <>
struct Scalars<float> {
  static __device__ float first_x(const KernelGeometry& p) { return p.first_x; }
  static __device__ float first_y(const KernelGeometry& p) { return p.first_y; }
  static __device__ float scale(const KernelGeometry& p) { return p.scale; }
};
template <>
struct Scalars<double> {
  static __device__ double first_x(const KernelGeometry& p) { return p.first_x_exact; }
  static __device__ double first_y(const KernelGeometry& p) { return p.first_y_exact; }
  static __device__ double scale(const KernelGeometry& p) { return p.scale_exact; }
};

// A sampling point: fractions, which corners are inside the input, and the pixel of the upper left one.
template <class S>
struct Sample {
  S right, lower; // fractions
  bool near_x, far_x, near_y, far_y; // corners inside; all false if the point is outside
  int64_t pixel;

  __device__ Sample(const KernelGeometry& p, int row, int column, int tap, S offset_x, S offset_y) {
    const int cell = tap >= p.middle ? tap + 1 : tap;
    const S scale = Scalars<S>::scale(p);
    const S x = Scalars<S>::first_x(p) + column * p.stride_w + (cell / p.kernel_h * p.dilation_w + offset_x) * scale;
    const S y = Scalars<S>::first_y(p) + row * p.stride_h + (cell % p.kernel_h * p.dilation_h + offset_y) * scale;
    // written so that NaN is not outside and propagates to the result
    const bool outside = x <= S(-1) || x >= S(p.width) || y <= S(-1) || y >= S(p.height);
    const S left = x == x && !outside ? ::floor(x) : S(0), upper = y == y && !outside ? ::floor(y) : S(0);
    right = outside ? S(0) : x - left;
    lower = outside ? S(0) : y - upper;
    const int i = static_cast<int>(left), j = static_cast<int>(upper);
    near_x = !outside && i >= 0;
    far_x = !outside && i + 1 < p.width;
    near_y = !outside && j >= 0;
    far_y = !outside && j + 1 < p.height;
    pixel = static_cast<int64_t>(j) * p.width + i;
  }

  __device__ bool inside(int corner) const { return (corner & 1 ? far_x : near_x) && (corner & 2 ? far_y : near_y); }
  __device__ S weight_x(int corner) const { return corner & 1 ? right : 1 - right; }
  __device__ S weight_y(int corner) const { return corner & 2 ? lower : 1 - lower; }
  __device__ int64_t at(int corner, const KernelGeometry& p) const {
    return pixel + (corner & 1) + (corner & 2 ? p.width : 0);
  }
};

template <class T, class S>
__global__ void __launch_bounds__(kThreads) forward_kernel(
    int64_t total, KernelGeometry p, const T* __restrict__ input, const T* __restrict__ offset,
    const T* __restrict__ mask, T* __restrict__ out) {
  const int channels = p.group * p.group_channels;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < total;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int channel = i % channels;
    const int64_t pixel = i / channels; // of the batch
    const int column = pixel % p.columns, row = pixel / p.columns % p.rows;
    const int64_t image = pixel / p.columns / p.rows;
    const T* from = input + image * p.height * p.width * channels + channel;
    const int64_t first = (pixel * p.group + channel / p.group_channels) * p.taps;
    S sum = 0;
    for (int tap = 0; tap < p.taps; ++tap) {
      const int64_t e = first + tap;
      const Sample<S> sample(p, row, column, tap, static_cast<S>(offset[2 * e]), static_cast<S>(offset[2 * e + 1]));
      S value = 0;
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        if (sample.inside(corner)) {
          value += sample.weight_x(corner) * sample.weight_y(corner) *
              static_cast<S>(from[sample.at(corner, p) * channels]);
        }
      }
      sum += value * static_cast<S>(mask[e]);
    }
    out[i] = static_cast<T>(sum);
  }
}

// One warp per output pixel and group: lanes are channels, the gradients of offset and modulation are their sums.
// The input's gradient is added up by atomic operations, so its last bits may differ from run to run.
template <class T, class S>
__global__ void __launch_bounds__(kThreads) backward_kernel(
    int64_t total, KernelGeometry p, const T* __restrict__ grad, const T* __restrict__ input,
    const T* __restrict__ offset, const T* __restrict__ mask, S* __restrict__ grad_input,
    T* __restrict__ grad_offset, T* __restrict__ grad_mask) {
  const int channels = p.group * p.group_channels, lane = threadIdx.x;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y; i < total;
       i += static_cast<int64_t>(gridDim.x) * blockDim.y) {
    const int group = i % p.group;
    const int64_t pixel = i / p.group;
    const int column = pixel % p.columns, row = pixel / p.columns % p.rows;
    const int64_t start = pixel / p.columns / p.rows * p.height * p.width * channels + group * p.group_channels;
    const T* from_grad = grad + pixel * channels + group * p.group_channels;
    for (int tap = 0; tap < p.taps; ++tap) {
      const int64_t e = i * p.taps + tap;
      const Sample<S> sample(p, row, column, tap, static_cast<S>(offset[2 * e]), static_cast<S>(offset[2 * e + 1]));
      const S modulation = static_cast<S>(mask[e]);
      S of_x = 0, of_y = 0, of_mask = 0;
      for (int channel = lane; channel < p.group_channels; channel += 32) {
        const S direction = static_cast<S>(from_grad[channel]);
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          if (sample.inside(corner)) {
            const int64_t at = start + sample.at(corner, p) * channels + channel;
            const S product = direction * static_cast<S>(input[at]);
            const S weight_x = sample.weight_x(corner), weight_y = sample.weight_y(corner);
            of_x += corner & 1 ? weight_y * product : -weight_y * product;
            of_y += corner & 2 ? weight_x * product : -weight_x * product;
            of_mask += weight_x * weight_y * product;
            atomicAdd(grad_input + at, weight_x * weight_y * modulation * direction);
          }
        }
      }
      for (int step = 16; step > 0; step /= 2) {
        of_x += __shfl_down_sync(0xffffffffu, of_x, step);
        of_y += __shfl_down_sync(0xffffffffu, of_y, step);
        of_mask += __shfl_down_sync(0xffffffffu, of_mask, step);
      }
      if (lane == 0) {
        grad_offset[2 * e] = static_cast<T>(of_x * modulation * Scalars<S>::scale(p));
        grad_offset[2 * e + 1] = static_cast<T>(of_y * modulation * Scalars<S>::scale(p));
        grad_mask[e] = static_cast<T>(of_mask);
      }
    }
  }
}

unsigned int blocks_for(int64_t total, int64_t per_block) {
  return static_cast<unsigned int>(std::min<int64_t>((total + per_block - 1) / per_block, int64_t{1} << 20));
}

at::Tensor dcnv3_cuda(
    const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask, at::IntArrayRef kernel,
    at::IntArrayRef stride, at::IntArrayRef pad, at::IntArrayRef dilation, int64_t group, int64_t group_channels,
    double offset_scale, bool remove_center) {
  const c10::cuda::CUDAGuard guard(input.device());
  const Geometry geometry = checked_geometry(
      input, offset, mask, kernel, stride, pad, dilation, group, group_channels, offset_scale, remove_center);
  auto out = at::empty({input.size(0), offset.size(1), offset.size(2), input.size(3)}, input.options());
  const int64_t total = out.numel();
  if (total == 0) {
    return out;
  }
  const auto values = input.contiguous(), offsets = offset.contiguous(), masks = mask.contiguous();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "dcnv3_cuda", [&] {
    using S = at::opmath_type<scalar_t>;
    forward_kernel<scalar_t, S><<<blocks_for(total, kThreads), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
        total, kernel_geometry(geometry, input, offset), values.const_data_ptr<scalar_t>(),
        offsets.const_data_ptr<scalar_t>(), masks.const_data_ptr<scalar_t>(), out.mutable_data_ptr<scalar_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> dcnv3_backward_cuda(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask,
    at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef pad, at::IntArrayRef dilation, int64_t group,
    int64_t group_channels, double offset_scale, bool remove_center) {
  const c10::cuda::CUDAGuard guard(input.device());
  const Geometry geometry = checked_geometry(
      input, offset, mask, kernel, stride, pad, dilation, group, group_channels, offset_scale, remove_center);
  TORCH_CHECK_VALUE(
      grad.sizes() == at::IntArrayRef({input.size(0), offset.size(1), offset.size(2), input.size(3)}) &&
          grad.scalar_type() == input.scalar_type() && grad.device() == input.device(),
      "dcnv3: the shape or type of the output's gradient does not match");
  at::globalContext().alertNotDeterministic("dcnv3_backward_cuda");
  const auto sum_type = input.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  auto grad_input = at::zeros(input.sizes(), input.options().dtype(sum_type));
  auto grad_offset = at::empty(offset.sizes(), offset.options());
  auto grad_mask = at::empty(mask.sizes(), mask.options());
  const int64_t total = grad.size(0) * grad.size(1) * grad.size(2) * group;
  if (total > 0) {
    const auto grads = grad.contiguous(), values = input.contiguous(), offsets = offset.contiguous(),
               masks = mask.contiguous();
    const dim3 threads(32, kThreads / 32);
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "dcnv3_backward_cuda", [&] {
      using S = at::opmath_type<scalar_t>;
      backward_kernel<scalar_t, S><<<blocks_for(total, threads.y), threads, 0, at::cuda::getCurrentCUDAStream()>>>(
          total, kernel_geometry(geometry, input, offset), grads.const_data_ptr<scalar_t>(),
          values.const_data_ptr<scalar_t>(), offsets.const_data_ptr<scalar_t>(), masks.const_data_ptr<scalar_t>(),
          grad_input.mutable_data_ptr<S>(), grad_offset.mutable_data_ptr<scalar_t>(),
          grad_mask.mutable_data_ptr<scalar_t>());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    });
  }
  return {grad_input.to(input.scalar_type()), grad_offset, grad_mask};
}

} // namespace

TORCH_LIBRARY_IMPL(vitdet_plugin, CUDA, m) {
  m.impl("dcnv3", dcnv3_cuda);
  m.impl("dcnv3_backward", dcnv3_backward_cuda);
}

} // namespace vitdet_plugin
