// Outlook attention (VOLO, arXiv 2106.13112, section 3.1) on the CPU: softmax, weighted sum and fold in one pass.
//
// For each window center and head, 9 x 9 scores a become probabilities p over the 9 values of the window, and the nine
// results p.v are added at the nine positions of the window. Neither the unfolded values nor the probabilities are
// stored.
//
// v: (B, H, W, heads * d); a: (B, h, w, heads * 81), h = (H + 2 * padding - 3) / stride + 1, likewise w.
// One task is one head of one image. Tasks write disjoint slices of every output, so results do not depend on the
// number of threads.

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <cmath>
#include <cstring>
#include <tuple>
#include <vector>

#if defined(__GNUC__)  // vector types of GCC and Clang; other compilers leave the kernel out

// Compiled for several instruction sets, one of which is chosen when the library is loaded (glibc's ifunc).
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define FOR_EACH_ISA __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define FOR_EACH_ISA
#endif
#define INLINE inline __attribute__((always_inline))

namespace {

constexpr int KERNEL = 3, P = KERNEL * KERNEL;  // side and number of positions of a window

template <typename T>
struct Simd {
  static constexpr int lanes = 64 / sizeof(T);
  typedef T vec __attribute__((vector_size(64)));
};

struct Shape {
  int64_t batch, height, width, heads, dim, rows, columns, stride, padding;
};

template <typename T>
INLINE void load(typename Simd<T>::vec &to, const T *from) { std::memcpy(&to, from, sizeof(to)); }
template <typename T>
INLINE void store(T *to, const typename Simd<T>::vec &from) { std::memcpy(to, &from, sizeof(from)); }
template <typename T>
INLINE void load_part(typename Simd<T>::vec &to, const T *from, int64_t n) {
  T part[Simd<T>::lanes] = {};
  for (int64_t k = 0; k < n; ++k) part[k] = from[k];
  load<T>(to, part);
}
template <typename T>
INLINE void store_part(T *to, const typename Simd<T>::vec &from, int64_t n) {
  T part[Simd<T>::lanes];
  store<T>(part, from);
  for (int64_t k = 0; k < n; ++k) to[k] = part[k];
}

// Sum of a vector's lanes, by halves.
template <typename T>
INLINE T sum_lanes(const typename Simd<T>::vec &v) {
  typedef T half __attribute__((vector_size(32)));
  typedef T quarter __attribute__((vector_size(16)));
  half halves[2];
  std::memcpy(halves, &v, sizeof(v));
  const half h = halves[0] + halves[1];
  quarter quarters[2];
  std::memcpy(quarters, &h, sizeof(h));
  const quarter q = quarters[0] + quarters[1];
  T sum = 0;
  for (size_t k = 0; k < 16 / sizeof(T); ++k) sum += q[k];
  return sum;
}

// x = exp(x) for x <= 0. float: 2^n times the Taylor series of e^r, |r| <= ln(2) / 2, whose next term
// (r^8 / 8! < 6e-9) is below float's resolution; values below e^-87 are rounded up to it.
INLINE void exp_not_positive(Simd<float>::vec &x) {
  typedef int32_t ints __attribute__((vector_size(64)));
  const Simd<float>::vec least = x * 0 - 87;
  x = x < least ? least : x;
  const ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, ints);
  const Simd<float>::vec whole = __builtin_convertvector(n, Simd<float>::vec);
  const Simd<float>::vec r = (x - whole * 0.693145752f) - whole * 1.42860677e-6f;  // ln(2) in two parts
  Simd<float>::vec y = r * (1.0f / 5040) + 1.0f / 720;
  y = y * r + 1.0f / 120;
  y = y * r + 1.0f / 24;
  y = y * r + 1.0f / 6;
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  x = y * reinterpret_cast<Simd<float>::vec>((n + 127) << 23);
}
INLINE void exp_not_positive(Simd<double>::vec &x) {
  for (int k = 0; k < Simd<double>::lanes; ++k) x[k] = std::exp(x[k]);
}

// p[j * 16 + i] = softmax over j of scale * a[i * 9 + j]: row i of the window's 9 x 9 scores, transposed, so that the
// nine rows are adjacent in vectors. Lanes 9 ... 15 stay finite and are not used.
constexpr int ROW = 16;
template <typename T, typename S>
INLINE void softmax(const S *a, T scale, T *p) {
  using V = typename Simd<T>::vec;
  for (int i = 0; i < P; ++i)
    for (int j = 0; j < P; ++j) p[j * ROW + i] = static_cast<T>(a[i * P + j]);
  for (int part = 0; part < ROW; part += Simd<T>::lanes) {
    V e[P];
    for (int j = 0; j < P; ++j) load<T>(e[j], p + j * ROW + part);
    for (int j = 0; j < P; ++j) e[j] *= scale;
    V top = e[0];
    for (int j = 1; j < P; ++j) top = e[j] > top ? e[j] : top;
    for (int j = 0; j < P; ++j) {
      e[j] -= top;
      exp_not_positive(e[j]);
    }
    V sum = e[0];
    for (int j = 1; j < P; ++j) sum += e[j];
    const V factor = 1 / sum;
    for (int j = 0; j < P; ++j) store<T>(p + j * ROW + part, e[j] * factor);
  }
}

// Pixel indices within the image of a window's nine positions; -1 outside.
INLINE void positions_of(const Shape &s, int64_t row, int64_t column, int64_t *positions) {
  for (int ky = 0; ky < KERNEL; ++ky)
    for (int kx = 0; kx < KERNEL; ++kx) {
      const int64_t y = row * s.stride - s.padding + ky, x = column * s.stride - s.padding + kx;
      const bool inside = y >= 0 && y < s.height && x >= 0 && x < s.width;
      positions[ky * KERNEL + kx] = inside ? y * s.width + x : -1;
    }
}

// y += fold(p v) over all windows of one head. v, y: pixels are `pitch` elements apart.
template <typename T, typename S>
INLINE void forward_head(const Shape &s, const T *v, T *y, int64_t pitch, const S *a, T scale) {
  using V = typename Simd<T>::vec;
  constexpr int lanes = Simd<T>::lanes;
  alignas(64) T p[P * ROW] = {};
  int64_t positions[P];
  for (int64_t row = 0; row < s.rows; ++row)
    for (int64_t column = 0; column < s.columns; ++column, a += s.heads * P * P) {
      softmax<T, S>(a, scale, p);
      positions_of(s, row, column, positions);
      for (int64_t c = 0; c < s.dim; c += lanes) {
        const int64_t n = s.dim - c;
        V values[P] = {};
        for (int j = 0; j < P; ++j)
          if (positions[j] >= 0) {
            if (n >= lanes) load<T>(values[j], v + positions[j] * pitch + c);
            else load_part<T>(values[j], v + positions[j] * pitch + c, n);
          }
        for (int i = 0; i < P; ++i) {
          if (positions[i] < 0) continue;
          T *out = y + positions[i] * pitch + c;
          V sum = p[i] * values[0], before;
          for (int j = 1; j < P; ++j) sum += p[j * ROW + i] * values[j];
          if (n >= lanes) {
            load<T>(before, out);
            store<T>(out, before + sum);
          } else {
            load_part<T>(before, out, n);
            store_part<T>(out, before + sum, n);
          }
        }
      }
    }
}

// grad_v += fold^T(p^T grad_y) and grad_a = softmax'(grad_y . v) of one head.
template <typename T, typename S>
INLINE void backward_head(const Shape &s, const T *grad_y, const T *v, T *grad_v, int64_t pitch, const S *a, S *grad_a,
                          T scale) {
  using V = typename Simd<T>::vec;
  constexpr int lanes = Simd<T>::lanes;
  alignas(64) T p[P * ROW] = {};
  alignas(64) V dots[P * P];
  int64_t positions[P];
  for (int64_t row = 0; row < s.rows; ++row)
    for (int64_t column = 0; column < s.columns; ++column, a += s.heads * P * P, grad_a += s.heads * P * P) {
      softmax<T, S>(a, scale, p);
      positions_of(s, row, column, positions);
      std::memset(static_cast<void *>(dots), 0, sizeof(dots));
      for (int64_t c = 0; c < s.dim; c += lanes) {
        const int64_t n = s.dim - c;
        V grads[P] = {};
        for (int i = 0; i < P; ++i)
          if (positions[i] >= 0) {
            if (n >= lanes) load<T>(grads[i], grad_y + positions[i] * pitch + c);
            else load_part<T>(grads[i], grad_y + positions[i] * pitch + c, n);
          }
        for (int j = 0; j < P; ++j) {
          if (positions[j] < 0) continue;
          const T *value = v + positions[j] * pitch + c;
          T *out = grad_v + positions[j] * pitch + c;
          V here, before, sum = p[j * ROW] * grads[0];
          for (int i = 1; i < P; ++i) sum += p[j * ROW + i] * grads[i];
          if (n >= lanes) {
            load<T>(before, out);
            store<T>(out, before + sum);
            load<T>(here, value);
          } else {
            load_part<T>(before, out, n);
            store_part<T>(out, before + sum, n);
            load_part<T>(here, value, n);
          }
          for (int i = 0; i < P; ++i) dots[j * P + i] += here * grads[i];
        }
      }
      T d[P * ROW] = {}, mean[ROW] = {};
      for (int j = 0; j < P; ++j)
        for (int i = 0; i < P; ++i) d[j * ROW + i] = sum_lanes<T>(dots[j * P + i]);
      for (int j = 0; j < P; ++j)
        for (int i = 0; i < ROW; ++i) mean[i] += d[j * ROW + i] * p[j * ROW + i];
      for (int i = 0; i < P; ++i)
        for (int j = 0; j < P; ++j)
          grad_a[i * P + j] = static_cast<S>(p[j * ROW + i] * (d[j * ROW + i] - mean[i]) * scale);
    }
}

#define INSTANTIATE(T, S)                                                                                          \
  FOR_EACH_ISA void run_forward(const Shape &s, const T *v, T *y, int64_t pitch, const S *a, T scale) {            \
    forward_head<T, S>(s, v, y, pitch, a, scale);                                                                  \
  }                                                                                                                \
  FOR_EACH_ISA void run_backward(const Shape &s, const T *grad_y, const T *v, T *grad_v, int64_t pitch, const S *a, \
                                 S *grad_a, T scale) {                                                             \
    backward_head<T, S>(s, grad_y, v, grad_v, pitch, a, grad_a, scale);                                            \
  }
INSTANTIATE(float, float)
INSTANTIATE(double, double)
INSTANTIATE(float, at::BFloat16)

Shape check(const at::Tensor &v, const at::Tensor &a, int64_t heads, int64_t stride, int64_t padding) {
  TORCH_CHECK(v.dim() == 4 && a.dim() == 4, "outlook_attention: v and a are (B, H, W, C) and (B, h, w, heads * 81)");
  TORCH_CHECK(heads > 0 && v.size(3) % heads == 0, "outlook_attention: ", v.size(3), " channels in ", heads, " heads");
  TORCH_CHECK(v.scalar_type() == a.scalar_type(), "outlook_attention: v is ", v.scalar_type(), ", a is ",
              a.scalar_type());
  TORCH_CHECK(stride > 0 && padding >= 0, "outlook_attention: stride ", stride, ", padding ", padding);
  const Shape s{v.size(0), v.size(1), v.size(2), heads, v.size(3) / heads,
                (v.size(1) + 2 * padding - KERNEL) / stride + 1, (v.size(2) + 2 * padding - KERNEL) / stride + 1,
                stride, padding};
  TORCH_CHECK(v.size(1) + 2 * padding >= KERNEL && v.size(2) + 2 * padding >= KERNEL && a.size(0) == s.batch &&
                  a.size(1) == s.rows && a.size(2) == s.columns && a.size(3) == heads * P * P,
              "outlook_attention: a is ", a.sizes(), " for v of ", v.sizes());
  return s;
}

// One head's channels as contiguous float: sums of bfloat16 are in float32.
void widen(const Shape &s, const at::BFloat16 *from, float *to) {
  for (int64_t pixel = 0; pixel < s.height * s.width; ++pixel, from += s.heads * s.dim)
    for (int64_t c = 0; c < s.dim; ++c) *to++ = static_cast<float>(from[c]);
}
void narrow(const Shape &s, const float *from, at::BFloat16 *to) {
  for (int64_t pixel = 0; pixel < s.height * s.width; ++pixel, to += s.heads * s.dim)
    for (int64_t c = 0; c < s.dim; ++c) to[c] = static_cast<at::BFloat16>(*from++);
}

template <typename Task>
void for_each_head(const Shape &s, const Task &task) {
  at::parallel_for(0, s.batch * s.heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t image = t / s.heads, head = t % s.heads;
      task(image * s.height * s.width * s.heads * s.dim + head * s.dim,
           (image * s.rows * s.columns * s.heads + head) * P * P);
    }
  });
}

at::Tensor forward(const at::Tensor &v_, const at::Tensor &a_, int64_t heads, int64_t stride, int64_t padding,
                   double scale) {
  const Shape s = check(v_, a_, heads, stride, padding);
  const at::Tensor v = v_.contiguous(), a = a_.contiguous();
  const int64_t pitch = s.heads * s.dim, size = s.height * s.width * s.dim;
  if (v.scalar_type() == at::kBFloat16) {
    at::Tensor y = at::empty_like(v);
    const auto *vp = v.const_data_ptr<at::BFloat16>(), *ap = a.const_data_ptr<at::BFloat16>();
    auto *yp = y.mutable_data_ptr<at::BFloat16>();
    for_each_head(s, [&](int64_t at_v, int64_t at_a) {
      std::vector<float> wide(2 * size);
      widen(s, vp + at_v, wide.data());
      run_forward(s, wide.data(), wide.data() + size, s.dim, ap + at_a, static_cast<float>(scale));
      narrow(s, wide.data() + size, yp + at_v);
    });
    return y;
  }
  at::Tensor y = at::zeros_like(v);
  AT_DISPATCH_FLOATING_TYPES(v.scalar_type(), "outlook_attention", [&] {
    const auto *vp = v.const_data_ptr<scalar_t>(), *ap = a.const_data_ptr<scalar_t>();
    auto *yp = y.mutable_data_ptr<scalar_t>();
    for_each_head(s, [&](int64_t at_v, int64_t at_a) {
      run_forward(s, vp + at_v, yp + at_v, pitch, ap + at_a, static_cast<scalar_t>(scale));
    });
  });
  return y;
}

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor &grad_, const at::Tensor &v_, const at::Tensor &a_,
                                            int64_t heads, int64_t stride, int64_t padding, double scale) {
  const Shape s = check(v_, a_, heads, stride, padding);
  TORCH_CHECK(grad_.sizes() == v_.sizes() && grad_.scalar_type() == v_.scalar_type(),
              "outlook_attention_backward: the gradient is ", grad_.sizes(), " for v of ", v_.sizes());
  const at::Tensor grad = grad_.contiguous(), v = v_.contiguous(), a = a_.contiguous();
  const int64_t pitch = s.heads * s.dim, size = s.height * s.width * s.dim;
  at::Tensor grad_a = at::empty_like(a);
  if (v.scalar_type() == at::kBFloat16) {
    at::Tensor grad_v = at::empty_like(v);
    const auto *gp = grad.const_data_ptr<at::BFloat16>(), *vp = v.const_data_ptr<at::BFloat16>(),
               *ap = a.const_data_ptr<at::BFloat16>();
    auto *gvp = grad_v.mutable_data_ptr<at::BFloat16>(), *gap = grad_a.mutable_data_ptr<at::BFloat16>();
    for_each_head(s, [&](int64_t at_v, int64_t at_a) {
      std::vector<float> wide(3 * size);
      widen(s, gp + at_v, wide.data());
      widen(s, vp + at_v, wide.data() + size);
      run_backward(s, wide.data(), wide.data() + size, wide.data() + 2 * size, s.dim, ap + at_a, gap + at_a,
                   static_cast<float>(scale));
      narrow(s, wide.data() + 2 * size, gvp + at_v);
    });
    return {grad_v, grad_a};
  }
  at::Tensor grad_v = at::zeros_like(v);
  AT_DISPATCH_FLOATING_TYPES(v.scalar_type(), "outlook_attention_backward", [&] {
    const auto *gp = grad.const_data_ptr<scalar_t>(), *vp = v.const_data_ptr<scalar_t>(),
               *ap = a.const_data_ptr<scalar_t>();
    auto *gvp = grad_v.mutable_data_ptr<scalar_t>(), *gap = grad_a.mutable_data_ptr<scalar_t>();
    for_each_head(s, [&](int64_t at_v, int64_t at_a) {
      run_backward(s, gp + at_v, vp + at_v, gvp + at_v, pitch, ap + at_a, gap + at_a, static_cast<scalar_t>(scale));
    });
  });
  return {grad_v, grad_a};
}

// Under autocast both inputs are converted to its dtype, as for a matrix product.
at::Tensor autocast(const at::Tensor &v, const at::Tensor &a, int64_t heads, int64_t stride, int64_t padding,
                    double scale) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("vitdet_plugin::outlook_attention", "")
                       .typed<decltype(forward)>();
  const auto dtype = at::autocast::get_autocast_dtype(at::kCPU);
  return op.call(at::autocast::cached_cast(dtype, v, at::kCPU), at::autocast::cached_cast(dtype, a, at::kCPU), heads,
                 stride, padding, scale);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m) {
  m.def("outlook_attention(Tensor v, Tensor a, int heads, int stride, int padding, float scale) -> Tensor");
  m.def("outlook_attention_backward(Tensor grad, Tensor v, Tensor a, int heads, int stride, int padding, "
        "float scale) -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(vitdet_plugin, CPU, m) {
  m.impl("outlook_attention", &forward);
  m.impl("outlook_attention_backward", &backward);
}
TORCH_LIBRARY_IMPL(vitdet_plugin, AutocastCPU, m) {
  m.impl("outlook_attention", &autocast);
}
// a gradient through it is an error, not zero
TORCH_LIBRARY_IMPL(vitdet_plugin, Autograd, m) {
  m.impl("outlook_attention_backward", torch::autograd::autogradNotImplementedFallback());
}

#endif  // __GNUC__
