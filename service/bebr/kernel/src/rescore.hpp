// Scores of rescore codes, which lie row by row and are read for a few candidates only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "layout.hpp"

namespace bebr {

// As bebr.core.scoring.RescoreQueries holds them.
struct RescoreQueries {
    const std::int16_t* values;  // (queries, dims)
    const float* scales;         // (queries,)
};

// What a record (the code, then its gain) adds to the score of its query, in turn for records of one query after the
// other: an exact integer sum, then in float32 and in this order * scale, * gain.
class Rescorer {
public:
    static constexpr std::size_t kStep = 16;  // bytes

    Rescorer(const Layout& layout, const RescoreQueries& queries)
        : layout_(layout), queries_(queries), code_(layout.code_size_bytes + kStep) {}
    float score(std::int32_t query, const std::uint8_t* record);

private:
    void take(std::int32_t query);
    std::int64_t product(const std::uint8_t* code);

    const Layout& layout_;
    const RescoreQueries& queries_;
    std::int32_t taken_ = -1;
    // The query that was taken, in the order in which codes are read: for each block, the values of the first dimension
    // of each byte, then those of the second, and so on; zero where a byte has no such dimension, and up to whole steps.
    std::vector<std::int16_t> values_;
    std::vector<std::uint8_t> code_;  // the one that is scored, with room to read a whole step at its end
    std::int64_t below_zero_ = 0;
};

// Queries as bebr.core.scoring.prepare_rescore makes them of projected (count, dims); peak: the largest value.
void quantize_rescore(const float* projected, std::size_t count, std::size_t dims, std::int32_t peak,
                      std::int16_t* values, float* scales);

}  // namespace bebr
