#include "records.hpp"

#include <cstring>

namespace bebr {
namespace {

// Packs as many levels into each byte as a Word has bytes: the level of byte i comes to bit i * Bits.
template <class Word, int Bits>
void pack_bytes(const std::uint8_t* levels, std::size_t bytes, std::uint8_t* code) {
    for (std::size_t b = 0; b < bytes; ++b) {
        Word word, packed = 0;
        std::memcpy(&word, levels + b * sizeof(Word), sizeof word);
        for (std::size_t i = 0; i < sizeof(Word); ++i) packed |= static_cast<Word>(word >> (8 - Bits) * i);
        code[b] = static_cast<std::uint8_t>(packed);
    }
}

void pack_levels(std::uint32_t bits, const std::uint8_t* levels, std::size_t bytes, std::uint8_t* code) {
    switch (bits) {
        case 1: return pack_bytes<std::uint64_t, 1>(levels, bytes, code);
        case 2: return pack_bytes<std::uint32_t, 2>(levels, bytes, code);
        case 4: return pack_bytes<std::uint16_t, 4>(levels, bytes, code);
        default: std::memcpy(code, levels, bytes);
    }
}

bool are_within(const std::uint8_t* levels, std::size_t count, std::uint8_t max_level) {
    std::uint8_t over = 0;
    for (std::size_t d = 0; d < count; ++d) over |= static_cast<std::uint8_t>(levels[d] & ~max_level);
    return over == 0;
}

}  // namespace

bool write_records(const Layout& layout, const std::uint8_t* levels, const std::uint16_t* gains, std::size_t rows,
                   std::uint8_t* records, std::size_t stride) {
    for (std::size_t r = 0; r < rows; ++r, records += stride) {
        for (const Block& block : layout.blocks) {
            if (!are_within(levels, block.dims, static_cast<std::uint8_t>(block.max_level))) return false;
            const std::size_t whole = block.dims / block.fields;
            std::uint8_t* code = records + block.first_byte;
            pack_levels(block.bits, levels, whole, code);
            if (const std::size_t left = block.dims % block.fields) {
                std::uint8_t last[8] = {};
                std::memcpy(last, levels + whole * block.fields, left);
                pack_levels(block.bits, last, 1, code + whole);
            }
            levels += block.dims;
        }
        std::memcpy(records + layout.code_size_bytes, gains + r, kGainBytes);
    }
    return true;
}

void represent(const Layout& layout, const std::uint8_t* levels, const float* gains, const float* steps,
               std::size_t rows, float* values) {
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t b = 0; b < layout.blocks.size(); ++b) {
            const Block& block = layout.blocks[b];
            const auto max_level = static_cast<std::int32_t>(block.max_level);
            for (std::size_t d = 0; d < block.dims; ++d)
                values[d] = static_cast<float>(2 * levels[d] - max_level) * steps[b] * gains[r];
            levels += block.dims;
            values += block.dims;
        }
}

}  // namespace bebr
