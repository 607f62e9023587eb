// Sums of products of 16-bit integers, for rescore codes and their queries. Compiled for every instruction set: of these
// loops compilers make what each has for such products.
#pragma once

#include "tile.hpp"

namespace bebr {

// sums[c] = values (size,) times column c of (count, size); no sum may leave an int32.
template <class Simd>
void column_products(const std::int16_t* values, const std::int16_t* columns, std::size_t count, std::size_t size,
                     std::int32_t* sums) {
    for (std::size_t c = 0; c < count; ++c, columns += size) {
        std::int32_t sum = 0;
        for (std::size_t i = 0; i < size; ++i) sum += columns[i] * values[i];
        sums[c] = sum;
    }
}

// The levels at one place in each of `count` bytes, times the values. count: whole steps, and no more than
// kProductsPerSum: that many products of 255 * 32768 fit an int32.
template <class Simd>
std::int32_t level_products(const std::uint8_t* bytes, std::size_t count, std::uint32_t shift, std::int16_t mask,
                            const std::int16_t* values) {
    std::int32_t sum = 0;
    for (const std::uint8_t* end = bytes + count; bytes != end; bytes += kLevelStep, values += kLevelStep)
        for (std::size_t i = 0; i < kLevelStep; ++i) {
            const auto level = static_cast<std::int16_t>(bytes[i] >> shift & mask);
            sum += level * values[i];
        }
    return sum;
}

}  // namespace bebr
