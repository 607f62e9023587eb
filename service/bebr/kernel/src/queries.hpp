// Queries in the order in which the kernels read them: interleaved by tile, so that one pointer walks through memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels.hpp"
#include "layout.hpp"

namespace bebr {

// Queries of sdc or adc as bebr.core.scoring.DotQueries holds them.
struct DotQueries {
    const std::int8_t* values;  // (queries, dims)
    const float* scales;        // (queries, blocks)

    DotQueries from(const Layout& layout, std::size_t first) const {
        return {values + first * layout.dims, scales + first * layout.blocks.size()};
    }
};

// One query in code space (dims) -> 8 bits a dim (dims), and a scale for each block: what scoring.prepare_adc makes of it.
void quantize(const Layout& layout, const float* projected, const float* steps, std::int8_t* values, float* scales);

// The queries `members` (row numbers) of a batch, ready for a dot kernel.
class PackedDotTile {
public:
    PackedDotTile(const Layout& layout, const DotQueries& queries, std::span<const std::uint32_t> members);
    DotTile view() const { return {values_.data(), offsets_.data(), scales_.data()}; }

private:
    std::vector<std::int32_t> values_, offsets_;
    std::vector<float> scales_;
};

// The queries `members` of codes (queries, code_size_bytes), ready for a hamming kernel.
class PackedHammingTile {
public:
    PackedHammingTile(const Layout& layout, const std::uint8_t* codes, std::span<const std::uint32_t> members);
    HammingTile view() const { return {masks_.data(), values_.data()}; }

private:
    std::vector<std::uint32_t> masks_, values_;
};

}  // namespace bebr
