// Blocked codes: how the codes of many rows lie in memory so that one SIMD lane is one row.
//
// 16 consecutive rows form a group. Every block of the CodeSpec is padded to whole 32-bit words, and the words of the
// 16 rows are interleaved: word w of row r lies at index (r / 16) * words * 16 + w * 16 + r % 16. A 64-byte vector load
// thus brings the same four bytes of 16 codes, and nothing is ever summed across lanes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "block.hpp"

namespace bebr {

struct Layout {
    std::vector<Block> blocks;
    std::uint32_t dims = 0;
    std::uint32_t code_size_bytes = 0;
    std::uint32_t words = 0;

    // blocks_dims_bits: (dims, bits) of every block, already checked by CodeSpec.
    explicit Layout(const std::vector<std::pair<std::uint32_t, std::uint32_t>>& blocks_dims_bits);

    Blocks view() const { return {blocks.data(), static_cast<std::uint32_t>(blocks.size()), words}; }
    std::size_t group_words() const { return words * kGroupRows; }
    std::size_t blocked_size_bytes(std::size_t rows) const;
};

// Writes `count` codes (count, code_size_bytes) to rows first_row.. and touches no byte of any other row, so that
// readers may scan the earlier rows of the same group meanwhile.
void pack(const Layout& layout, const std::uint8_t* codes, std::size_t count, std::size_t first_row,
          std::uint32_t* blocked);

// Reads one row back into `code` (code_size_bytes).
void unpack(const Layout& layout, const std::uint32_t* blocked, std::size_t row, std::uint8_t* code);

}  // namespace bebr
