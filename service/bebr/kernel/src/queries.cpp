#include "queries.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace bebr {
namespace {

// The query values of the four dimensions that lie in field `field` of the four bytes of word `word`. Zero past the
// last dimension, so that padding never counts.
std::int32_t values_of_field(const Block& block, const std::int8_t* block_values, std::uint32_t word,
                             std::uint32_t field) {
    std::int8_t bytes[4];
    for (std::uint32_t i = 0; i < 4; ++i) {
        const std::uint32_t dim = (4 * word + i) * block.fields + field;
        bytes[i] = dim < block.dims ? block_values[dim] : std::int8_t{0};
    }
    std::int32_t packed;
    std::memcpy(&packed, bytes, sizeof packed);
    return packed;
}

// The top bit of every level in word `word` of the block.
std::uint32_t sign_mask(const Block& block, std::uint32_t word) {
    const std::uint32_t levels_per_word = 32 / block.bits;
    std::uint32_t mask = 0;
    for (std::uint32_t i = 0; i < levels_per_word && word * levels_per_word + i < block.dims; ++i)
        mask |= 1u << (block.bits * i + block.bits - 1);
    return mask;
}

}  // namespace

void quantize(const Layout& layout, const float* projected, const float* steps, std::int8_t* values, float* scales) {
    for (std::size_t b = 0; b < layout.blocks.size(); ++b) {
        const std::uint32_t dims = layout.blocks[b].dims;
        float peak = 0;
        for (std::uint32_t i = 0; i < dims; ++i) peak = std::max(peak, std::fabs(projected[i]));
        const float unit = (peak == 0 ? 1.0f : peak) * static_cast<float>(1.0 / 127);
        // Adding and taking off 1.5 * 2^23 rounds to even, as the processor does; unlike a call it is done for many at once.
        constexpr float kRounds = 12582912.0f;
        for (std::uint32_t i = 0; i < dims; ++i)
            values[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(projected[i] / unit + kRounds - kRounds));
        scales[b] = unit * steps[b];
        projected += dims;
        values += dims;
    }
}

PackedDotTile::PackedDotTile(const Layout& layout, const DotQueries& queries,
                             std::span<const std::uint32_t> members) {
    std::uint32_t first_dim = 0;
    for (std::size_t b = 0; b < layout.blocks.size(); ++b) {
        const Block& block = layout.blocks[b];
        for (std::uint32_t word = 0; word < block.words; ++word)
            for (std::uint32_t field = 0; field < block.fields; ++field)
                for (std::uint32_t query : members)
                    values_.push_back(values_of_field(
                        block, queries.values + std::size_t{query} * layout.dims + first_dim, word, field));
        for (std::uint32_t query : members) {
            const std::int8_t* values = queries.values + std::size_t{query} * layout.dims + first_dim;
            const auto max_level = static_cast<std::int32_t>(block.max_level);
            offsets_.push_back(-max_level * std::accumulate(values, values + block.dims, std::int32_t{0}));
            scales_.push_back(queries.scales[query * layout.blocks.size() + b]);
        }
        first_dim += block.dims;
    }
}

PackedHammingTile::PackedHammingTile(const Layout& layout, const std::uint8_t* codes,
                                     std::span<const std::uint32_t> members) {
    for (const Block& block : layout.blocks) {
        for (std::uint32_t first = 0; first < block.words; first += block.bits) {
            const std::uint32_t merged = std::min(block.bits, block.words - first);
            for (std::uint32_t i = 0; i < merged; ++i) masks_.push_back(sign_mask(block, first + i));
            for (std::uint32_t query : members) {
                const std::uint8_t* code = codes + std::size_t{query} * layout.code_size_bytes + block.first_byte;
                std::uint32_t signs = 0;
                for (std::uint32_t i = 0; i < merged; ++i) {
                    std::uint32_t word = 0;
                    const std::uint32_t at = 4 * (first + i);
                    std::memcpy(&word, code + at, std::min(4u, block.size_bytes - at));
                    signs |= (word & masks_[masks_.size() - merged + i]) >> i;
                }
                values_.push_back(signs);
            }
        }
    }
}

}  // namespace bebr
