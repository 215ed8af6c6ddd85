// Compiles KERNEL_FILE as each_isa.h does, and for AVX-512 with products of bfloat16, as isa_avx512_bf16. Before it is
// included, Kernel<T> is defined, which holds functions of KERNEL_FILE, and VITDET_KERNEL(isa), which sets `kernel`.
#include "each_isa.h"

#ifdef VITDET_X86_ISAS
#define VITDET_X86_BF16 1
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prefer-vector-width=512")
#define ISA_BYTES 64
#define ISA_HAS_BF16 1
namespace isa_avx512_bf16 {
#include "simd.h"
#include KERNEL_FILE
} // namespace isa_avx512_bf16
#undef ISA_HAS_BF16
#undef ISA_BYTES
#pragma GCC pop_options
#endif

inline bool has_bf16() {
#ifdef VITDET_X86_BF16
  return best_isa() == 2 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

// Calls run(T()) for the element type T of the tensors.
template <class Run>
void for_type(at::ScalarType type, const char* name, Run run) {
  if (type == at::kFloat) {
    run(float());
  } else {
    TORCH_CHECK_NOT_IMPLEMENTED(
        type == at::kBFloat16 && has_bf16(), name, ": ", type, " is not supported",
        type == at::kBFloat16 ? " on this processor" : "");
    run(c10::BFloat16());
  }
}

// Functions of the best instruction set for elements of type T.
template <class T>
Kernel<T> best_kernel() {
  Kernel<T> kernel{};
  if constexpr (sizeof(T) == 4) {
    VITDET_FOR_BEST_ISA(VITDET_KERNEL);
  } else {
#ifdef VITDET_X86_BF16
    VITDET_KERNEL(isa_avx512_bf16);
#endif
  }
  return kernel;
}
