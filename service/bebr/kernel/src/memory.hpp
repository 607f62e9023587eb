// Memory for blocked codes: aligned, zeroed and, where the system allows, in large pages (fewer TLB misses in a scan).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace bebr {

struct Allocation {
    std::uint8_t* bytes;    // aligned to 64 bytes at least, to 2 MB from 2 MB on
    void* base;             // for `release`
    std::size_t base_size;  // 0: from the ordinary heap
};

// Raises std::bad_alloc.
Allocation allocate(std::size_t size);
void release(const Allocation& allocation);

struct ReleaseMemory {
    void operator()(const Allocation* allocation) const {
        release(*allocation);
        delete allocation;
    }
};
using Memory = std::unique_ptr<const Allocation, ReleaseMemory>;

}  // namespace bebr
