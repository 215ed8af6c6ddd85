// Arguments of DCNv3 and their checks, shared by all backends.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <tuple>

namespace vitdet_plugin {

// Static arguments. Taps: columns are the outer loop, rows the inner one; the center one may be left out.
struct Geometry {
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int64_t group, group_channels;
  double offset_scale;
  bool remove_center;

  int64_t taps() const { return kernel_h * kernel_w - (remove_center ? 1 : 0); }
  int64_t channels() const { return group * group_channels; }
  int64_t out_height(int64_t height) const {
    return (height + 2 * pad_h - (dilation_h * (kernel_h - 1) + 1)) / stride_h + 1;
  }
  int64_t out_width(int64_t width) const {
    return (width + 2 * pad_w - (dilation_w * (kernel_w - 1) + 1)) / stride_w + 1;
  }
  // Cell of tap number `tap`: its index in the columns-first order of the whole kernel.
  int64_t cell(int64_t tap) const { return remove_center && tap >= kernel_h * kernel_w / 2 ? tap + 1 : tap; }
  // Sampling position of a tap without offset for the output pixel (0, 0), in pixels of the input.
  double origin_x(int64_t tap) const {
    return ((dilation_w * (kernel_w - 1)) >> 1) * (1 - offset_scale) - pad_w +
        (cell(tap) / kernel_h) * dilation_w * offset_scale;
  }
  double origin_y(int64_t tap) const {
    return ((dilation_h * (kernel_h - 1)) >> 1) * (1 - offset_scale) - pad_h +
        (cell(tap) % kernel_h) * dilation_h * offset_scale;
  }
};

// Builds the struct from the operator's argument lists and checks that the tensors match it (and each other).
inline Geometry checked_geometry(
    const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask, at::IntArrayRef kernel,
    at::IntArrayRef stride, at::IntArrayRef pad, at::IntArrayRef dilation, int64_t group, int64_t group_channels,
    double offset_scale, bool remove_center) {
  TORCH_CHECK_VALUE(
      kernel.size() == 2 && stride.size() == 2 && pad.size() == 2 && dilation.size() == 2,
      "dcnv3: kernel, stride, pad and dilation are (height, width)");
  Geometry geometry{
      kernel[0], kernel[1], stride[0], stride[1], pad[0], pad[1], dilation[0], dilation[1], group, group_channels,
      offset_scale, remove_center};
  TORCH_CHECK_VALUE(
      kernel[0] > 0 && kernel[1] > 0 && stride[0] > 0 && stride[1] > 0 && pad[0] >= 0 && pad[1] >= 0 &&
          dilation[0] > 0 && dilation[1] > 0 && group > 0 && group_channels > 0,
      "dcnv3: kernel, stride, dilation and groups are at least 1, pad at least 0");
  TORCH_CHECK_VALUE(
      !remove_center || (kernel[0] == kernel[1] && kernel[0] % 2 == 1),
      "dcnv3: remove_center needs an odd square kernel");
  TORCH_CHECK_VALUE(
      input.dim() == 4 && offset.dim() == 4 && mask.dim() == 4, "dcnv3: input, offset and mask have four dimensions");
  TORCH_CHECK_VALUE(
      offset.device() == input.device() && mask.device() == input.device(),
      "dcnv3: input, offset and mask are on different devices");
  TORCH_CHECK_TYPE(
      offset.scalar_type() == input.scalar_type() && mask.scalar_type() == input.scalar_type(),
      "dcnv3: input, offset and mask have different types");
  const int64_t batch = input.size(0), height = input.size(1), width = input.size(2);
  TORCH_CHECK_VALUE(
      input.size(3) == geometry.channels(), "dcnv3: the number of input channels is not group * group_channels");
  TORCH_CHECK_VALUE(
      height > 0 && width > 0 && height + 2 * pad[0] > dilation[0] * (kernel[0] - 1) &&
          width + 2 * pad[1] > dilation[1] * (kernel[1] - 1),
      "dcnv3: the input is smaller than the kernel");
  TORCH_CHECK_VALUE(height * width < (int64_t{1} << 31), "dcnv3: the input has more than 2^31 pixels");
  const int64_t rows = geometry.out_height(height), columns = geometry.out_width(width);
  const int64_t points = group * geometry.taps();
  TORCH_CHECK_VALUE(
      offset.sizes() == at::IntArrayRef({batch, rows, columns, points * 2}) &&
          mask.sizes() == at::IntArrayRef({batch, rows, columns, points}),
      "dcnv3: the shape of offset or mask does not match input and kernel: ", offset.sizes(), " and ", mask.sizes());
  return geometry;
}

} // namespace vitdet_plugin
