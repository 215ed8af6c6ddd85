// Compiles KERNEL_FILE once per instruction set, in namespaces isa_base, isa_avx2 and isa_avx512, so that one binary
// runs on all machines and uses the widest registers available. VITDET_FOR_BEST_ISA(RUN) expands to RUN(namespace) for
// the current machine. ISA_BYTES is the width of a register.
//
//   #define KERNEL_FILE "my_kernel.h"    // found by the include path; includes nothing, may use simd.h
//   #include "each_isa.h"
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#define ISA_BYTES 16
namespace isa_base {
#include "simd.h"
#include KERNEL_FILE
} // namespace isa_base
#undef ISA_BYTES

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VITDET_X86_ISAS 1

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#define ISA_BYTES 32
namespace isa_avx2 {
#include "simd.h"
#include KERNEL_FILE
} // namespace isa_avx2
#undef ISA_BYTES
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#define ISA_BYTES 64
namespace isa_avx512 {
#include "simd.h"
#include KERNEL_FILE
} // namespace isa_avx512
#undef ISA_BYTES
#pragma GCC pop_options

inline int best_isa() {
  static const int level = [] {
    const char* limit = std::getenv("OPS_DCNV3_ISA"); // base, avx2: for tests and comparisons
    const int most = !limit ? 2 : std::strcmp(limit, "base") == 0 ? 0 : std::strcmp(limit, "avx2") == 0 ? 1 : 2;
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return std::min(most, avx512 ? 2 : avx2 ? 1 : 0);
  }();
  return level;
}
#define VITDET_FOR_BEST_ISA(RUN) \
  (best_isa() == 2 ? (void)(RUN(isa_avx512)) : best_isa() == 1 ? (void)(RUN(isa_avx2)) : (void)(RUN(isa_base)))
#else
#define VITDET_FOR_BEST_ISA(RUN) (void)(RUN(isa_base))
#endif
