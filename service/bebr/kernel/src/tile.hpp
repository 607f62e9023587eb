// What the two kernels share. Everything here is inlined by force or has internal linkage: this header is compiled with
// the flags of every instruction set, and the linker must find nothing to merge.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block.hpp"

#define BEBR_INLINE [[gnu::always_inline]] inline
#define BEBR_UNROLL _Pragma("GCC unroll 16")

namespace bebr {

// How far ahead a scan of one query asks for memory: it waits for nothing else.
constexpr std::size_t kPrefetchBytes = 4096;

BEBR_INLINE void prefetch(const std::uint32_t* words) { __builtin_prefetch(words); }

BEBR_INLINE std::size_t group_words(const Blocks& layout) { return layout.words * kGroupRows; }

BEBR_INLINE std::size_t groups_ahead(const Blocks& layout) {
    const std::size_t group_bytes = group_words(layout) * sizeof(std::uint32_t);
    return (kPrefetchBytes + group_bytes - 1) / group_bytes;
}

BEBR_INLINE std::uint32_t group_ahead(const std::uint32_t* list, std::size_t count, std::size_t i) {
    return list[i < count ? i : count - 1];
}

}  // namespace bebr
