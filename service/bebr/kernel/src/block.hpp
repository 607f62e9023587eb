// One block of a CodeSpec, as plain data: every instruction set's file includes this (see kernels.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

namespace bebr {

constexpr std::size_t kGroupRows = 16;  // see layout.hpp

// `dims` levels of `bits` bits.
struct Block {
    std::uint32_t dims;
    std::uint32_t bits;
    std::uint32_t fields;      // levels per byte
    std::uint32_t max_level;   // 2^bits - 1
    std::uint32_t first_byte;  // in a code as the rest of the service stores it
    std::uint32_t size_bytes;
    std::uint32_t first_word;  // in a blocked code
    std::uint32_t words;
};

struct Blocks {
    const Block* blocks;
    std::uint32_t count;
    std::uint32_t words;  // of a blocked code
};

}  // namespace bebr
