// What the attention kernels of the CPU share: operands, memory, and the choice of an instruction set. In an unnamed
// namespace, as each source file compiles its own kernels.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#if __has_include(<ATen/native/CPUBlas.h>)
#include <ATen/native/CPUBlas.h>
#endif

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vitdet_plugin {

namespace {

constexpr int64_t kBlockRows = 48;  // queries of a block, a multiple of the rows of a tile
constexpr int64_t kSlack = 16;      // floats that may be read or written after an array

// Rows of a matrix with a stride, or at the addresses in `tokens`.
template <class T>
struct Rows {
  const T* base;
  int64_t stride;
  const T* const* tokens = nullptr;
  const T* operator()(int64_t i) const { return tokens ? tokens[i] + stride : base + i * stride; }
};

// Position of a query in the grid of the keys.
struct Query {
  int32_t y, x;
};

// Replaces the products of bfloat16: to (rows, columns) = [to +] left right, as multiply_rows in attention_tiles.h.
using Multiply = void (*)(int64_t rows, int64_t columns, int64_t units, const int32_t* left, int64_t left_stride,
                          const int32_t* right, int64_t right_stride, float* to, int64_t to_stride, bool add);

struct Plan {
  int64_t keys, dim;
  int64_t query_stride, value_stride; // dim, padded to units and to registers
  int64_t score_stride;
  bool has_bias;
  int64_t grid[2];        // rows and columns of the keys
  int64_t bias_stride[2];
  float factor;           // of scores and bias, in the exponent of 2
  float bias_factor;      // of the bias before
  float scale;            // of scores, without the bias
  Multiply multiply;      // null: the products of attention_tiles.h
};

#ifdef CPUBLAS_BRGEMM_BF16BF16F32
inline void multiply_by_onednn(int64_t rows, int64_t columns, int64_t units, const int32_t* left, int64_t left_stride,
                               const int32_t* right, int64_t right_stride, float* to, int64_t to_stride, bool add) {
  at::native::cpublas::brgemm(
      rows, columns, 2 * units, 2 * left_stride, right_stride, to_stride, add,
      reinterpret_cast<const c10::BFloat16*>(left), reinterpret_cast<const c10::BFloat16*>(right), to);
}

// oneDNN uses the matrix units (AMX) of processors that have them; its packed layout is the one used here. The
// environment variable is for tests on other processors.
inline bool uses_onednn() {
  static const bool uses = [] {
    const char* asked = std::getenv("VITDET_ATTENTION_ONEDNN");
    return asked ? std::strcmp(asked, "1") == 0 : at::native::cpublas::could_pack(at::kBFloat16);
  }();
  return uses;
}

inline void release_onednn() {
  at::native::cpublas::brgemm_release();
}
#else
constexpr Multiply multiply_by_onednn = nullptr;
constexpr bool uses_onednn() {
  return false;
}
inline void release_onednn() {}
#endif

inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

inline int64_t round_up(int64_t a, int64_t b) {
  return ceil_div(a, b) * b;
}

// 64-byte aligned, zero.
class Buffer {
 public:
  explicit Buffer(int64_t bytes) : memory_(new char[bytes + 64]()) {
    next_ = memory_.get() + (64 - reinterpret_cast<uintptr_t>(memory_.get()) % 64) % 64;
  }
  template <class T>
  T* take(int64_t count) {
    T* taken = reinterpret_cast<T*>(next_);
    next_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    return taken;
  }

 private:
  std::unique_ptr<char[]> memory_;
  char* next_;
};

inline Plan make_plan(int64_t keys, int64_t dim, double scale, bool has_bias, int64_t rows, int64_t columns) {
  Plan plan{};
  plan.keys = keys, plan.dim = dim, plan.has_bias = has_bias;
  plan.grid[0] = rows, plan.grid[1] = columns;
  plan.factor = static_cast<float>(scale * 1.4426950408889634); // log2(e)
  plan.bias_factor = static_cast<float>(1 / scale);
  plan.scale = static_cast<float>(scale);
  return plan;
}

} // namespace

} // namespace vitdet_plugin
