// Scores of rescore codes, which lie row by row and are read for a few candidates only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout.hpp"

namespace bebr {

// As bebr.core.scoring.RescoreQueries holds them.
struct RescoreQueries {
    const std::int16_t* values;  // (queries, dims)
    const float* scales;         // (queries,)
};

// Record i (the code, then its gain) begins at bytes + i * stride.
struct RescoreRecords {
    const std::uint8_t* bytes;
    std::size_t stride;
    const std::int32_t* query_of;  // ascending
    std::size_t count;
};

// Writes the score of each record: an exact integer sum, then in float32 and in this order * scale, * gain.
void rescore(const Layout& layout, const RescoreQueries& queries, const RescoreRecords& records, float* scores);

}  // namespace bebr
