// Scores of rescore codes, which lie row by row and are read for a few candidates only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.hpp"
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
    Rescorer(const Kernels& kernels, const Layout& layout, const RescoreQueries& queries)
        : level_products_(kernels.level_products),
          layout_(layout),
          queries_(queries),
          code_(layout.code_size_bytes + kLevelStep) {}
    float score(std::int32_t query, const std::uint8_t* record);

private:
    void take(std::int32_t query);
    std::int64_t product(const std::uint8_t* code);

    decltype(Kernels::level_products) level_products_;
    const Layout& layout_;
    const RescoreQueries& queries_;
    std::int32_t taken_ = -1;
    // The query that was taken, in the order in which codes are read: for each block, the values of the first dimension
    // of each byte, then those of the second, and so on; zero where a byte has no such dimension, and up to whole steps.
    std::vector<std::int16_t> values_;
    std::vector<std::uint8_t> code_;  // the one that is scored, with room to read a whole step at its end
    std::int64_t below_zero_ = 0;
};

// Columns of whole numbers (count, size), each of a length of about kLength; times its unit it is what it stands for.
// Dimension d of (dims,) is column_of[d], times factors[d].
struct WholeColumns {
    static constexpr float kLength = 32767;  // sums of products of two of that length fit an int32

    const std::int16_t* values;
    const float* units;
    std::size_t count;
    std::size_t size;
    const std::int32_t* column_of;
    const float* factors;
    std::size_t dims;
};

// rows (count, columns.size) times the columns -> projected (count, columns.dims). A row is rounded to whole numbers too,
// so its sums are exact in any order: it has the same product alone and among others, on every machine.
void project_rescore(const Kernels& kernels, const float* rows, std::size_t count, const WholeColumns& columns,
                     float* projected);

// Queries as bebr.core.scoring.prepare_rescore makes them of projected (count, dims); peak: the largest value.
void quantize_rescore(const float* projected, std::size_t count, std::size_t dims, std::int32_t peak,
                      std::int16_t* values, float* scales);

}  // namespace bebr
