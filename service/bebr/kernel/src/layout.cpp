#include "layout.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace bebr {

static_assert(std::endian::native == std::endian::little, "a word holds four bytes of a code, lowest first");

Layout::Layout(const std::vector<std::pair<std::uint32_t, std::uint32_t>>& blocks_dims_bits) {
    for (auto [block_dims, bits] : blocks_dims_bits) {
        const std::uint32_t size_bytes = (block_dims * bits + 7) / 8;
        const std::uint32_t block_words = (size_bytes + 3) / 4;
        blocks.push_back(
            {block_dims, bits, 8 / bits, (1u << bits) - 1, code_size_bytes, size_bytes, words, block_words});
        dims += block_dims;
        code_size_bytes += size_bytes;
        words += block_words;
    }
}

std::size_t Layout::blocked_size_bytes(std::size_t rows) const {
    return (rows + kGroupRows - 1) / kGroupRows * group_words() * sizeof(std::uint32_t);
}

namespace {

// The first word of a row; its next words follow at a distance of kGroupRows.
template <class Word>
Word* row_start(const Layout& layout, Word* blocked, std::size_t row) {
    return blocked + row / kGroupRows * layout.group_words() + row % kGroupRows;
}

}  // namespace

void pack(const Layout& layout, const std::uint8_t* codes, std::size_t count, std::size_t first_row,
          std::uint32_t* blocked) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint8_t* code = codes + i * layout.code_size_bytes;
        std::uint32_t* row = row_start(layout, blocked, first_row + i);
        for (const Block& block : layout.blocks) {
            for (std::uint32_t w = 0; w < block.words; ++w) {
                std::uint32_t word = 0;
                std::memcpy(&word, code + block.first_byte + 4 * w, std::min(4u, block.size_bytes - 4 * w));
                row[(block.first_word + w) * kGroupRows] = word;
            }
        }
    }
}

void unpack(const Layout& layout, const std::uint32_t* blocked, std::size_t row, std::uint8_t* code) {
    const std::uint32_t* words = row_start(layout, blocked, row);
    for (const Block& block : layout.blocks) {
        for (std::uint32_t w = 0; w < block.words; ++w) {
            const std::uint32_t word = words[(block.first_word + w) * kGroupRows];
            std::memcpy(code + block.first_byte + 4 * w, &word, std::min(4u, block.size_bytes - 4 * w));
        }
    }
}

}  // namespace bebr
