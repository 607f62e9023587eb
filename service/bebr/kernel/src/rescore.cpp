#include "rescore.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace bebr {
namespace {

constexpr float kWholes = 0x1.8p23f;  // floats as large as this have no fraction

// A field is read so many bytes at a time.
std::size_t whole_steps(std::size_t size) { return (size + kLevelStep - 1) / kLevelStep * kLevelStep; }

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

float rounded(float value) { return (value + kWholes) - kWholes; }  // to the nearest, of two to the even one

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
        values_.resize(first + block.fields * whole_steps(block.size_bytes), 0);
        for (std::uint32_t field = 0; field < block.fields; ++field) {
            std::int16_t* of_field = values_.data() + first + field * whole_steps(block.size_bytes);
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
std::int64_t Rescorer::product(const std::uint8_t* code) {
    std::memcpy(code_.data(), code, layout_.code_size_bytes);
    const std::int16_t* values = values_.data();
    std::int64_t sum = 0;
    for (const Block& block : layout_.blocks) {
        const std::uint8_t* bytes = code_.data() + block.first_byte;
        const std::size_t size = whole_steps(block.size_bytes);  // what is read of the next block counts nothing
        for (std::uint32_t field = 0; field < block.fields; ++field, values += size)
            for (std::size_t i = 0; i < size; i += kProductsPerSum)
                sum += level_products_(bytes + i, std::min(kProductsPerSum, size - i), block.bits * field,
                                       static_cast<std::int16_t>(block.max_level), values + i);
    }
    return 2 * sum - below_zero_;
}

void project_rescore(const Kernels& kernels, const float* rows, std::size_t count, const WholeColumns& columns,
                     float* projected) {
    std::vector<std::int16_t> values(columns.size);
    std::vector<std::int32_t> sums(columns.count);
    for (std::size_t r = 0; r < count; ++r, rows += columns.size, projected += columns.dims) {
        double square = 0;
        for (std::size_t i = 0; i < columns.size; ++i) square += static_cast<double>(rows[i]) * rows[i];
        const float length = static_cast<float>(std::sqrt(square)) / WholeColumns::kLength;
        const float unit = length > 0 ? length : 1;
        for (std::size_t i = 0; i < columns.size; ++i)
            values[i] = static_cast<std::int16_t>(static_cast<std::int32_t>(rounded(rows[i] / unit)));
        kernels.column_products(values.data(), columns.values, columns.count, columns.size, sums.data());
        for (std::size_t d = 0; d < columns.dims; ++d) {
            const std::int32_t column = columns.column_of[d];
            projected[d] = static_cast<float>(sums[column]) * (columns.units[column] * unit) * columns.factors[d];
        }
    }
}

void quantize_rescore(const float* projected, std::size_t count, std::size_t dims, std::int32_t peak,
                      std::int16_t* values, float* scales) {
    const auto share = static_cast<float>(1.0 / peak);
    for (std::size_t q = 0; q < count; ++q, projected += dims, values += dims) {
        std::uint32_t largest_bits = 0;  // of floats without a sign the bits have the same order
        for (std::size_t d = 0; d < dims; ++d)
            largest_bits = std::max(largest_bits, std::bit_cast<std::uint32_t>(projected[d]) & 0x7fffffffu);
        const float unit = (largest_bits == 0 ? 1 : std::bit_cast<float>(largest_bits)) * share;
        for (std::size_t d = 0; d < dims; ++d) {
            values[d] = static_cast<std::int16_t>(static_cast<std::int32_t>(rounded(projected[d] / unit)));
        }
        scales[q] = unit;
    }
}

}  // namespace bebr
