#include "dispatch.hpp"

#include <atomic>

#ifdef BEBR_X86_KERNELS
#include <cpuid.h>
#endif

namespace bebr {
namespace {

std::atomic<const Kernels*> chosen{nullptr};

#ifdef BEBR_X86_KERNELS
bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vpopcntdq");
}

bool has_avx2() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;  // not every compiler's cpu_supports knows F16C
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
#endif

}  // namespace

std::vector<const Kernels*> supported_kernels() {
    std::vector<const Kernels*> supported;
#ifdef BEBR_X86_KERNELS
    if (has_avx512()) supported.push_back(&avx512_kernels);
    if (has_avx2()) supported.push_back(&avx2_kernels);
#endif
    supported.push_back(&portable_kernels);
    return supported;
}

const Kernels& current_kernels() {
    const Kernels* kernels = chosen.load(std::memory_order_acquire);
    if (!kernels) {
        kernels = supported_kernels().front();
        chosen.store(kernels, std::memory_order_release);
    }
    return *kernels;
}

bool use_kernels(const std::string& name) {
    for (const Kernels* kernels : supported_kernels()) {
        if (kernels->name != name) continue;
        chosen.store(kernels, std::memory_order_release);
        return true;
    }
    return false;
}

}  // namespace bebr
