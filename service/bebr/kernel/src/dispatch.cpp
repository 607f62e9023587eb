#include "dispatch.hpp"

#include <atomic>

namespace bebr {
namespace {

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

std::vector<const Kernels*> supported_kernels() {
    std::vector<const Kernels*> supported;
#ifdef BEBR_X86_KERNELS
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
        __builtin_cpu_supports("avx512vpopcntdq"))
        supported.push_back(&avx512_kernels);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) supported.push_back(&avx2_kernels);
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
