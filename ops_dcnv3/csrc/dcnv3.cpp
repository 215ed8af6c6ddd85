// The operator's schema and autocast rule.
#include "dcnv3.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

namespace vitdet_plugin {

namespace {

// As for other operators with several floating point inputs: all in the widest of their types.
template <c10::DispatchKey Key>
at::Tensor dcnv3_autocast(
    const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask, at::IntArrayRef kernel,
    at::IntArrayRef stride, at::IntArrayRef pad, at::IntArrayRef dilation, int64_t group, int64_t group_channels,
    double offset_scale, bool remove_center) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(Key);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vitdet_plugin::dcnv3", "")
                             .typed<at::Tensor(
                                 const at::Tensor&, const at::Tensor&, const at::Tensor&, at::IntArrayRef,
                                 at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t, int64_t, double, bool)>();
  const auto widest = c10::promoteTypes(
      c10::promoteTypes(input.scalar_type(), offset.scalar_type()), mask.scalar_type());
  return op.call(
      input.to(widest), offset.to(widest), mask.to(widest), kernel, stride, pad, dilation, group, group_channels,
      offset_scale, remove_center);
}

} // namespace

TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m) {
  m.def(
      "dcnv3(Tensor input, Tensor offset, Tensor mask, int[] kernel, int[] stride, int[] pad, int[] dilation, "
      "int group, int group_channels, float offset_scale, bool remove_center) -> Tensor");
  m.def(
      "dcnv3_backward(Tensor grad, Tensor input, Tensor offset, Tensor mask, int[] kernel, int[] stride, int[] pad, "
      "int[] dilation, int group, int group_channels, float offset_scale, bool remove_center) "
      "-> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(vitdet_plugin, AutocastCPU, m) {
  m.impl("dcnv3", dcnv3_autocast<c10::DispatchKey::AutocastCPU>);
}

TORCH_LIBRARY_IMPL(vitdet_plugin, AutocastCUDA, m) {
  m.impl("dcnv3", dcnv3_autocast<c10::DispatchKey::AutocastCUDA>);
}

// a gradient through it is an error, not zero
TORCH_LIBRARY_IMPL(vitdet_plugin, Autograd, m) {
  m.impl("dcnv3_backward", torch::autograd::autogradNotImplementedFallback());
}

} // namespace vitdet_plugin
