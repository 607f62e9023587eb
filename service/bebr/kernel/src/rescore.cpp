#include "rescore.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace bebr {
namespace {

// Products of 255 * 32768 at most: as many of them fit an int32.
constexpr std::size_t kProductsPerSum = 256;

// One query in the order in which codes are read: for each block, the values of the first dimension of each byte, then
// those of the second, and so on; zero where a byte has no such dimension.
class Query {
public:
    Query(const Layout& layout, const std::int16_t* values) {
        for (const Block& block : layout.blocks) {
            std::int64_t sum = 0;
            const std::size_t first = values_.size();
            values_.resize(first + block.fields * block.size_bytes, 0);
            for (std::uint32_t d = 0; d < block.dims; ++d) {
                values_[first + d % block.fields * block.size_bytes + d / block.fields] = values[d];
                sum += values[d];
            }
            below_zero_ += block.max_level * sum;
            values += block.dims;
        }
    }

    // The sum of grid value * query value over all dimensions. A grid value is 2 * level - max_level.
    std::int64_t product(const Layout& layout, const std::uint8_t* code) const {
        const std::int16_t* values = values_.data();
        std::int64_t sum = 0;
        for (const Block& block : layout.blocks) {
            const std::uint8_t* bytes = code + block.first_byte;
            for (std::uint32_t field = 0; field < block.fields; ++field) {
                for (std::size_t i = 0; i < block.size_bytes; i += kProductsPerSum)
                    sum += levels_product(bytes + i, std::min(kProductsPerSum, block.size_bytes - i),
                                          block.bits * field, static_cast<std::int16_t>(block.max_level), values + i);
                values += block.size_bytes;
            }
        }
        return 2 * sum - below_zero_;
    }

private:
    // Compilers make of this what every machine has for products of 16-bit integers.
    static std::int32_t levels_product(const std::uint8_t* bytes, std::size_t count, std::uint32_t shift,
                                       std::int16_t mask, const std::int16_t* values) {
        std::int32_t sum = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const auto level = static_cast<std::int16_t>(bytes[i] >> shift & mask);
            sum += level * values[i];
        }
        return sum;
    }

    std::vector<std::int16_t> values_;
    std::int64_t below_zero_ = 0;
};

// Exact for every half. A gain that is no number stays none.
float half_to_float(std::uint16_t half) {
    const std::uint32_t magnitude = half & 0x7fffu;
    std::uint32_t bits = magnitude << 13;
    float scaled;
    std::memcpy(&scaled, &bits, sizeof scaled);
    scaled *= 0x1p112f;
    std::memcpy(&bits, &scaled, sizeof bits);
    bits |= (magnitude >= 0x7c00u ? 0x7f800000u : 0u) | (half & 0x8000u) << 16;
    std::memcpy(&scaled, &bits, sizeof scaled);
    return scaled;
}

}  // namespace

void rescore(const Layout& layout, const RescoreQueries& queries, const RescoreRecords& records, float* scores) {
    for (std::size_t i = 0; i < records.count;) {
        const std::int32_t q = records.query_of[i];
        const Query query(layout, queries.values + q * layout.dims);
        for (; i < records.count && records.query_of[i] == q; ++i) {
            const std::uint8_t* record = records.bytes + i * records.stride;
            std::uint16_t gain;
            std::memcpy(&gain, record + layout.code_size_bytes, sizeof gain);
            scores[i] = static_cast<float>(query.product(layout, record)) * queries.scales[q] * half_to_float(gain);
        }
    }
}

}  // namespace bebr
