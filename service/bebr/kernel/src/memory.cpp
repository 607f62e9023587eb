#include "memory.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#define BEBR_HAS_MMAP
#endif

namespace bebr {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kLargePage = std::size_t{2} << 20;

}  // namespace

Allocation allocate(std::size_t size) {
#ifdef BEBR_HAS_MMAP
    if (size >= kLargePage) {
        // One large page more than asked for, so that the start can be moved to a page border.
        const std::size_t base_size = (size + 2 * kLargePage - 1) / kLargePage * kLargePage;
        void* base = mmap(nullptr, base_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) throw std::bad_alloc();
        const auto address = reinterpret_cast<std::uintptr_t>(base);
        const std::size_t skipped = (kLargePage - address % kLargePage) % kLargePage;
        auto* bytes = static_cast<std::uint8_t*>(base) + skipped;
#ifdef MADV_HUGEPAGE
        madvise(bytes, base_size - skipped, MADV_HUGEPAGE);  // a wish: small pages are as correct
#endif
        return {bytes, base, base_size};
    }
#endif
    const std::size_t rounded = size == 0 ? kLine : (size + kLine - 1) / kLine * kLine;
    void* base = std::aligned_alloc(kLine, rounded);
    if (!base) throw std::bad_alloc();
    std::memset(base, 0, rounded);
    return {static_cast<std::uint8_t*>(base), base, 0};
}

void release(const Allocation& allocation) {
#ifdef BEBR_HAS_MMAP
    if (allocation.base_size) {
        munmap(allocation.base, allocation.base_size);
        return;
    }
#endif
    std::free(allocation.base);
}

}  // namespace bebr
