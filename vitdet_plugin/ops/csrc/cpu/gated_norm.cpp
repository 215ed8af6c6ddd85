// The end of a Vision-LSTM layer before its last projection, and its derivatives, each in one pass over the data: the
// norm of each head, the skip of the convolution's output, and the gate.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <cmath>
#include <tuple>
#include <vector>

namespace vitdet_plugin {

namespace {

#define KERNEL_FILE "gated_norm_kernel.h"
#include "each_isa.h"

constexpr int64_t kGrain = 16;       // minimum number of tokens for a thread
constexpr int64_t kSummedRows = 64;  // tokens over which the parameters' gradients are summed first; not by thread, so
                                     // that the result does not depend on the number of threads
constexpr int64_t kPadding = 16;     // lanes of the widest register

// Rows may be part of wider ones.
at::Tensor with_rows(const at::Tensor& x) {
  const bool strided = x.stride(2) == 1 && (x.size(0) == 1 || x.stride(0) == x.size(1) * x.stride(1));
  return strided ? x : x.contiguous();
}

struct Inputs {
  at::Tensor h, c, z, weight, bias, skip; // bias may be undefined
  int64_t heads, rows, head_dim;
  double eps;

  at::TensorOptions wide() const { return weight.options(); }

  // Fills a head of one instruction set.
  template <class Head, class T>
  Head head(int64_t row, int64_t number) const {
    using S = at::opmath_type<T>;
    const int64_t first = number * head_dim;
    return {h.const_data_ptr<T>() + (number * rows + row) * head_dim,
            c.const_data_ptr<T>() + row * c.stride(1) + first,
            z.const_data_ptr<T>() + row * z.stride(1) + first,
            weight.const_data_ptr<S>() + first,
            bias.defined() ? bias.const_data_ptr<S>() + first : nullptr,
            skip.const_data_ptr<S>() + first,
            head_dim,
            static_cast<S>(eps)};
  }
};

Inputs checked(const at::Tensor& h, const at::Tensor& c, const at::Tensor& z, const at::Tensor& weight,
               const std::optional<at::Tensor>& bias, const at::Tensor& skip, double eps) {
  const bool shapes = h.dim() == 4 && c.dim() == 3 && c.sizes() == z.sizes() && h.size(1) == c.size(0) &&
      h.size(2) == c.size(1) && h.size(0) * h.size(3) == c.size(2) && weight.numel() == c.size(2) &&
      skip.numel() == c.size(2) && (!bias || bias->numel() == c.size(2));
  const auto type = h.scalar_type();
  TORCH_CHECK_VALUE(
      shapes && type == c.scalar_type() && type == z.scalar_type(),
      "gated_norm: the shapes or types of the inputs do not match");
  const auto wide = type == at::kDouble ? at::kDouble : at::kFloat;
  return {h.contiguous(),
          with_rows(c),
          with_rows(z),
          weight.to(wide).contiguous(),
          bias ? bias->to(wide).contiguous() : at::Tensor(),
          skip.to(wide).contiguous(),
          h.size(0),
          c.size(0) * c.size(1),
          h.size(3),
          eps};
}

template <class T>
void run_forward(const Inputs& in, T* out) {
  at::parallel_for(0, in.rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t head = 0; head < in.heads; ++head) {
        T* to = out + (row * in.heads + head) * in.head_dim;
#define VITDET_RUN(isa) isa::gated_norm_head<T>(in.head<isa::GatedHead<T>, T>(row, head), to)
        VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
      }
    }
  });
}

// h (heads, B, S, d), c and z (B, S, heads * d), of one type -> (norm(h) * weight + bias + skip * c) * silu(z)
at::Tensor gated_norm_cpu(
    const at::Tensor& h, const at::Tensor& c, const at::Tensor& z, const at::Tensor& weight,
    const std::optional<at::Tensor>& bias, const at::Tensor& skip, double eps) {
  const Inputs in = checked(h, c, z, weight, bias, skip, eps);
  auto out = at::empty(c.sizes(), c.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, h.scalar_type(), "gated_norm_cpu", [&] {
    run_forward<scalar_t>(in, out.mutable_data_ptr<scalar_t>());
  });
  return out;
}

// Sums over blocks of tokens go to sums (blocks, 3, dim).
template <class T, class S>
void run_backward(const Inputs& in, const T* grad, T* grad_h, T* grad_c, T* grad_z, S* sums) {
  const int64_t head_dim = in.head_dim, dim = in.heads * head_dim;
  at::parallel_for(0, (in.rows + kSummedRows - 1) / kSummedRows, 1, [&](int64_t begin, int64_t end) {
    std::vector<S> scratch(head_dim + kPadding), added(3 * (dim + kPadding));
    for (int64_t block = begin; block < end; ++block) {
      std::fill(added.begin(), added.end(), S(0));
      for (int64_t row = block * kSummedRows; row < std::min(in.rows, (block + 1) * kSummedRows); ++row) {
        for (int64_t head = 0; head < in.heads; ++head) {
          const int64_t first = head * head_dim, at = row * dim + first;
          S* const to[3] = {
              added.data() + first, added.data() + dim + kPadding + first, added.data() + 2 * (dim + kPadding) + first};
#define VITDET_RUN(isa)                                                                                        \
  isa::gated_norm_head_backward<T>(                                                                            \
      in.head<isa::GatedHead<T>, T>(row, head), grad + at, grad_h + (head * in.rows + row) * head_dim, grad_c + at, \
      grad_z + at, to, scratch.data())
          VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
        }
      }
      for (int64_t i = 0; i < 3; ++i) {
        std::copy_n(added.data() + i * (dim + kPadding), dim, sums + (block * 3 + i) * dim);
      }
    }
  });
}

// Gradients of h, c and z, and those of weight, bias and skip (3, heads * d) in the type of their sums.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> gated_norm_backward_cpu(
    const at::Tensor& grad, const at::Tensor& h, const at::Tensor& c, const at::Tensor& z, const at::Tensor& weight,
    const std::optional<at::Tensor>& bias, const at::Tensor& skip, double eps) {
  const Inputs in = checked(h, c, z, weight, bias, skip, eps);
  TORCH_CHECK_VALUE(
      grad.sizes() == c.sizes() && grad.scalar_type() == c.scalar_type(),
      "gated_norm: the shape or type of the output's gradient does not match");
  const auto grads = grad.contiguous();
  auto grad_h = at::empty(h.sizes(), h.options()), grad_c = at::empty(c.sizes(), c.options());
  auto grad_z = at::empty(c.sizes(), c.options());
  auto sums = at::empty({(in.rows + kSummedRows - 1) / kSummedRows, 3, c.size(2)}, in.wide());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, h.scalar_type(), "gated_norm_backward_cpu", [&] {
    using S = at::opmath_type<scalar_t>;
    run_backward<scalar_t, S>(
        in, grads.const_data_ptr<scalar_t>(), grad_h.mutable_data_ptr<scalar_t>(), grad_c.mutable_data_ptr<scalar_t>(),
        grad_z.mutable_data_ptr<scalar_t>(), sums.mutable_data_ptr<S>());
  });
  return {grad_h, grad_c, grad_z, at::sum(sums, 0)};
}

} // namespace

TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m) {
  m.def("gated_norm(Tensor h, Tensor c, Tensor z, Tensor weight, Tensor? bias, Tensor skip, float eps) -> Tensor");
  m.def("gated_norm_backward(Tensor grad, Tensor h, Tensor c, Tensor z, Tensor weight, Tensor? bias, Tensor skip, "
        "float eps) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(vitdet_plugin, CPU, m) {
  m.impl("gated_norm", gated_norm_cpu);
  m.impl("gated_norm_backward", gated_norm_backward_cpu);
}

// a gradient through these is an error, not zero
TORCH_LIBRARY_IMPL(vitdet_plugin, Autograd, m) {
  m.impl("gated_norm", torch::autograd::autogradNotImplementedFallback());
  m.impl("gated_norm_backward", torch::autograd::autogradNotImplementedFallback());
}

} // namespace vitdet_plugin
