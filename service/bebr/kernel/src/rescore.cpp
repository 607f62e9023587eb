#include "rescore.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace bebr {
namespace {

// Products of 255 * 32768 at most: as many of them fit an int32.
constexpr std::size_t kProductsPerSum = 256;

// Compilers make of this what every machine has for products of 16-bit integers.
std::int32_t levels_product(const std::uint8_t* bytes, std::size_t count, std::uint32_t shift, std::int16_t mask,
                            const std::int16_t* values) {
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto level = static_cast<std::int16_t>(bytes[i] >> shift & mask);
        sum += level * values[i];
    }
    return sum;
}

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

float Rescorer::score(std::int32_t query, const std::uint8_t* record) {
    if (query != taken_) take(query);
    std::uint16_t gain;
    std::memcpy(&gain, record + layout_.code_size_bytes, sizeof gain);
    return static_cast<float>(product(record)) * queries_.scales[query] * half_to_float(gain);
}

void Rescorer::take(std::int32_t query) {
    const std::int16_t* values = queries_.values + static_cast<std::size_t>(query) * layout_.dims;
    taken_ = query;
    values_.clear();
    below_zero_ = 0;
    for (const Block& block : layout_.blocks) {
        std::int64_t sum = 0;
        const std::size_t first = values_.size();
        values_.resize(first + block.fields * block.size_bytes, 0);
        for (std::uint32_t field = 0; field < block.fields; ++field) {
            std::int16_t* of_field = values_.data() + first + field * block.size_bytes;
            for (std::uint32_t d = field; d < block.dims; d += block.fields) {
                *of_field++ = values[d];
                sum += values[d];
            }
        }
        below_zero_ += block.max_level * sum;
        values += block.dims;
    }
}

// The sum of grid value * query value over all dimensions. A grid value is 2 * level - max_level.
std::int64_t Rescorer::product(const std::uint8_t* code) const {
    const std::int16_t* values = values_.data();
    std::int64_t sum = 0;
    for (const Block& block : layout_.blocks) {
        const std::uint8_t* bytes = code + block.first_byte;
        for (std::uint32_t field = 0; field < block.fields; ++field) {
            for (std::size_t i = 0; i < block.size_bytes; i += kProductsPerSum)
                sum += levels_product(bytes + i, std::min<std::size_t>(kProductsPerSum, block.size_bytes - i),
                                      block.bits * field, static_cast<std::int16_t>(block.max_level), values + i);
            values += block.size_bytes;
        }
    }
    return 2 * sum - below_zero_;
}

void quantize_rescore(const float* projected, std::size_t count, std::size_t dims, std::int32_t peak,
                      std::int16_t* values, float* scales) {
    const auto share = static_cast<float>(1.0 / peak);
    for (std::size_t q = 0; q < count; ++q, projected += dims, values += dims) {
        float largest = 0;
        for (std::size_t d = 0; d < dims; ++d) largest = std::max(largest, std::fabs(projected[d]));
        const float unit = (largest == 0 ? 1 : largest) * share;
        for (std::size_t d = 0; d < dims; ++d)
            values[d] = static_cast<std::int16_t>(static_cast<std::int32_t>(std::nearbyintf(projected[d] / unit)));
        scales[q] = unit;
    }
}

}  // namespace bebr
