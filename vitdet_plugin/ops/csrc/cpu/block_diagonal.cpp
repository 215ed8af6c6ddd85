// Linear layers whose matrix has blocks of 4 x 4 on its diagonal, for inference. As products of small or of mostly zero
// matrices, they take more time than the data takes to read.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

namespace vitdet_plugin {

namespace {

#define KERNEL_FILE "block_diagonal_kernel.h"
#include "each_isa.h"

constexpr int64_t kGrain = 64; // minimum number of rows for a thread

template <class T, class S>
void multiply(
    const T* from, int64_t stride, const S* weight, const S* bias, T* to, int64_t rows, int64_t heads,
    int64_t head_dim) {
  at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
#define VITDET_RUN(isa) \
  isa::block_diagonal_rows<T>(from, stride, weight, bias, to, begin, end, rows, heads, head_dim)
    VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
  });
}

// x (B, S, dim), weight (dim / 4, 4 out, 4 in), bias (dim,) -> (heads, B, S, dim / heads)
at::Tensor block_diagonal_cpu(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias, int64_t heads) {
  const bool shapes = x.dim() == 3 && weight.dim() == 3 && weight.size(1) == 4 && weight.size(2) == 4 &&
      x.size(2) == 4 * weight.size(0) && heads > 0 && x.size(2) % (4 * heads) == 0 &&
      (!bias || (bias->dim() == 1 && bias->size(0) == x.size(2)));
  TORCH_CHECK_VALUE(shapes, "block_diagonal: the shapes of input, weight, bias and the number of heads do not match");
  const int64_t batch = x.size(0), length = x.size(1), dim = x.size(2), rows = batch * length;
  // rows may be part of wider ones
  const bool strided = x.stride(2) == 1 && (batch == 1 || x.stride(0) == length * x.stride(1));
  const auto input = strided ? x : x.contiguous();
  auto out = at::empty({heads, batch, length, dim / heads}, x.options());
  if (rows == 0) {
    return out;
  }
  const auto wide = x.options().dtype(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const auto by_input = weight.to(wide.dtype()).permute({2, 0, 1}).contiguous(); // (4 in, dim / 4, 4 out)
  const auto added = bias ? bias->to(wide.dtype()).contiguous() : at::zeros({dim}, wide);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "block_diagonal_cpu", [&] {
    using S = at::opmath_type<scalar_t>;
    multiply<scalar_t, S>(
        input.const_data_ptr<scalar_t>(), input.stride(1), by_input.const_data_ptr<S>(), added.const_data_ptr<S>(),
        out.mutable_data_ptr<scalar_t>(), rows, heads, dim / heads);
  });
  return out;
}

} // namespace

TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m) {
  m.def("block_diagonal(Tensor x, Tensor weight, Tensor? bias, int heads) -> Tensor");
}

TORCH_LIBRARY_IMPL(vitdet_plugin, CPU, m) {
  m.impl("block_diagonal", block_diagonal_cpu);
}

} // namespace vitdet_plugin
