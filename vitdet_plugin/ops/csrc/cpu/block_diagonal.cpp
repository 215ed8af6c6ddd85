// Linear layers whose matrix has blocks of 4 x 4 on its diagonal, and their derivatives. As products of small or of mostly zero
// matrices, they take more time than the data takes to read.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <tuple>

namespace vitdet_plugin {

namespace {

#define KERNEL_FILE "block_diagonal_kernel.h"
#include "each_isa.h"

constexpr int64_t kGrain = 64;         // minimum number of rows for a thread
constexpr int64_t kGradChannels = 32;  // channels whose weights' gradients a thread sums at a time

// Sizes of a layer's input (B, S, dim).
struct Sizes {
  int64_t rows, heads, head_dim;
};

// x (B, S, dim), rows `stride` elements apart -> (heads, B, S, dim / heads); or the other way around.
template <class T, class S>
void multiply(const T* from, int64_t stride, const S* weight, const S* bias, T* to, const Sizes& sizes, bool from_heads) {
  const int64_t head_dim = sizes.head_dim, all = sizes.rows * head_dim;
  at::parallel_for(0, sizes.rows, kGrain, [&](int64_t begin, int64_t end) {
#define VITDET_RUN(isa)                                                                                          \
  isa::block_diagonal_rows<T>(                                                                                   \
      from, from_heads ? isa::Strides{head_dim, all} : isa::Strides{stride, head_dim}, weight, bias, to,         \
      from_heads ? isa::Strides{stride, head_dim} : isa::Strides{head_dim, all}, begin, end, sizes.heads, head_dim)
    VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
  });
}

// Gradients of the weight by inputs (4 in, dim / 4, 4 out) and of the bias (dim,).
template <class T, class S>
void sum_weight_gradients(const T* x, int64_t stride, const T* grad, const Sizes& sizes, S* to_weight, S* to_bias) {
  const int64_t rows = sizes.rows, head_dim = sizes.head_dim, dim = sizes.heads * head_dim;
  const int64_t parts = (head_dim + kGradChannels - 1) / kGradChannels;
  at::parallel_for(0, sizes.heads * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t head = i / parts, first = i % parts * kGradChannels;
      const int64_t last = std::min(head_dim, first + kGradChannels), offset = head * head_dim;
#define VITDET_RUN(isa)                                                                                        \
  isa::block_diagonal_weight_gradients<T>(                                                                     \
      x + offset, stride, grad + offset * rows, head_dim, rows, first, last, to_weight + offset, dim, to_bias + offset)
      VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
    }
  });
}

Sizes checked_sizes(const at::Tensor& x, const at::Tensor& weight, int64_t heads) {
  const bool matching = x.dim() == 3 && weight.dim() == 3 && weight.size(1) == 4 && weight.size(2) == 4 &&
      x.size(2) == 4 * weight.size(0) && heads > 0 && x.size(2) % (4 * heads) == 0;
  TORCH_CHECK_VALUE(matching, "block_diagonal: the shapes of input, weight and the number of heads do not match");
  return {x.size(0) * x.size(1), heads, x.size(2) / heads};
}

// Rows may be part of wider ones.
at::Tensor with_rows(const at::Tensor& x) {
  const bool strided = x.stride(2) == 1 && (x.size(0) == 1 || x.stride(0) == x.size(1) * x.stride(1));
  return strided ? x : x.contiguous();
}

at::TensorOptions wide_options(const at::Tensor& x) {
  return x.options().dtype(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

// x (B, S, dim), weight (dim / 4, 4 out, 4 in), bias (dim,) -> (heads, B, S, dim / heads)
at::Tensor block_diagonal_cpu(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias, int64_t heads) {
  const Sizes sizes = checked_sizes(x, weight, heads);
  TORCH_CHECK_VALUE(
      !bias || (bias->dim() == 1 && bias->size(0) == x.size(2)), "block_diagonal: the shape of the bias does not match");
  const auto input = with_rows(x);
  auto out = at::empty({heads, x.size(0), x.size(1), sizes.head_dim}, x.options());
  if (out.numel() == 0) {
    return out;
  }
  const auto wide = wide_options(x);
  const auto by_input = weight.to(wide.dtype()).permute({2, 0, 1}).contiguous(); // (4 in, dim / 4, 4 out)
  const auto added = bias ? bias->to(wide.dtype()).contiguous() : at::zeros({x.size(2)}, wide);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "block_diagonal_cpu", [&] {
    using S = at::opmath_type<scalar_t>;
    multiply<scalar_t, S>(
        input.const_data_ptr<scalar_t>(), input.stride(1), by_input.const_data_ptr<S>(), added.const_data_ptr<S>(),
        out.mutable_data_ptr<scalar_t>(), sizes, false);
  });
  return out;
}

// grad (heads, B, S, dim / heads) -> gradients of x (B, S, dim), and of weight and bias in the type of their sums.
std::tuple<at::Tensor, at::Tensor, at::Tensor> block_diagonal_backward_cpu(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight) {
  TORCH_CHECK_VALUE(grad.dim() == 4, "block_diagonal: the gradient is not (heads, B, S, dim / heads)");
  const Sizes sizes = checked_sizes(x, weight, grad.size(0));
  TORCH_CHECK_VALUE(
      grad.size(1) == x.size(0) && grad.size(2) == x.size(1) && grad.size(3) == sizes.head_dim &&
          grad.scalar_type() == x.scalar_type(),
      "block_diagonal: the shape or type of the output's gradient does not match");
  const auto wide = wide_options(x);
  const int64_t dim = x.size(2);
  const auto input = with_rows(x), grads = grad.contiguous();
  auto grad_x = at::empty(x.sizes(), x.options());
  if (grad_x.numel() == 0) {
    return {grad_x, at::zeros(weight.sizes(), wide), at::zeros({dim}, wide)};
  }
  auto by_input = at::empty({4, dim / 4, 4}, wide), grad_bias = at::empty({dim}, wide);
  const auto by_output = weight.to(wide.dtype()).permute({1, 0, 2}).contiguous(); // (4 out, dim / 4, 4 in)
  const auto none = at::zeros({dim}, wide);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "block_diagonal_backward_cpu", [&] {
    using S = at::opmath_type<scalar_t>;
    const auto* from = grads.const_data_ptr<scalar_t>();
    multiply<scalar_t, S>(
        from, dim, by_output.const_data_ptr<S>(), none.const_data_ptr<S>(), grad_x.mutable_data_ptr<scalar_t>(), sizes,
        true);
    sum_weight_gradients<scalar_t, S>(
        input.const_data_ptr<scalar_t>(), input.stride(1), from, sizes, by_input.mutable_data_ptr<S>(),
        grad_bias.mutable_data_ptr<S>());
  });
  return {grad_x, by_input.permute({1, 2, 0}), grad_bias};
}

} // namespace

TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m) {
  m.def("block_diagonal(Tensor x, Tensor weight, Tensor? bias, int heads) -> Tensor");
  m.def("block_diagonal_backward(Tensor grad, Tensor x, Tensor weight) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(vitdet_plugin, CPU, m) {
  m.impl("block_diagonal", block_diagonal_cpu);
  m.impl("block_diagonal_backward", block_diagonal_backward_cpu);
}

// a gradient through these is an error, not zero
TORCH_LIBRARY_IMPL(vitdet_plugin, Autograd, m) {
  m.impl("block_diagonal", torch::autograd::autogradNotImplementedFallback());
  m.impl("block_diagonal_backward", torch::autograd::autogradNotImplementedFallback());
}

} // namespace vitdet_plugin
