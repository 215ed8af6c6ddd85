// Softmax over the sampling points of each group, which are contiguous in the last dimension. PyTorch's softmax is slow
// on dimensions this short.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <cmath>
#include <vector>

namespace vitdet_plugin {

namespace {

#define KERNEL_FILE "tap_softmax_kernel.h"
#include "each_isa.h"

constexpr int64_t kGrain = 2048; // minimum number of runs for a thread

int64_t checked_runs(const at::Tensor& logits, int64_t taps) {
  TORCH_CHECK_VALUE(
      taps > 0 && logits.dim() > 0 && logits.size(-1) % taps == 0,
      "tap_softmax: the last dimension is not a multiple of ", taps);
  return logits.numel() / taps;
}

template <class T>
void softmax(const T* from, T* to, int64_t runs, int64_t taps) {
  using S = at::opmath_type<T>;
  at::parallel_for(0, runs, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<S> scratch(taps * 64 / sizeof(S)); // one of the widest registers for each tap
#define VITDET_RUN(isa) isa::softmax_runs<T>(from + begin * taps, to + begin * taps, end - begin, taps, scratch.data())
    VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
  });
}

at::Tensor tap_softmax_cpu(const at::Tensor& logits, int64_t taps) {
  const int64_t runs = checked_runs(logits, taps);
  const auto input = logits.contiguous();
  auto out = at::empty(logits.sizes(), logits.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, logits.scalar_type(), "tap_softmax_cpu", [&] {
    softmax<scalar_t>(input.const_data_ptr<scalar_t>(), out.mutable_data_ptr<scalar_t>(), runs, taps);
  });
  return out;
}

at::Tensor tap_softmax_backward_cpu(const at::Tensor& grad, const at::Tensor& result, int64_t taps) {
  const int64_t runs = checked_runs(result, taps);
  TORCH_CHECK_VALUE(
      grad.sizes() == result.sizes() && grad.scalar_type() == result.scalar_type(),
      "tap_softmax: the shape or type of the output's gradient does not match");
  const auto grads = grad.contiguous(), values = result.contiguous();
  auto out = at::empty(result.sizes(), result.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, result.scalar_type(), "tap_softmax_backward_cpu", [&] {
    using S = at::opmath_type<scalar_t>;
    const auto* from_grad = grads.const_data_ptr<scalar_t>();
    const auto* from = values.const_data_ptr<scalar_t>();
    auto* to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, runs, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t start = begin * taps; start < end * taps; start += taps) {
        S sum = 0;
        for (int64_t e = start; e < start + taps; ++e) {
          sum += static_cast<S>(from_grad[e]) * static_cast<S>(from[e]);
        }
        for (int64_t e = start; e < start + taps; ++e) {
          to[e] = static_cast<scalar_t>((static_cast<S>(from_grad[e]) - sum) * static_cast<S>(from[e]));
        }
      }
    });
  });
  return out;
}

} // namespace

TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m) {
  m.def("tap_softmax(Tensor logits, int taps) -> Tensor");
  m.def("tap_softmax_backward(Tensor grad, Tensor result, int taps) -> Tensor");
}

TORCH_LIBRARY_IMPL(vitdet_plugin, CPU, m) {
  m.impl("tap_softmax", tap_softmax_cpu);
  m.impl("tap_softmax_backward", tap_softmax_backward_cpu);
}

// a gradient through it is an error, not zero
TORCH_LIBRARY_IMPL(vitdet_plugin, Autograd, m) {
  m.impl("tap_softmax_backward", torch::autograd::autogradNotImplementedFallback());
}

} // namespace vitdet_plugin
