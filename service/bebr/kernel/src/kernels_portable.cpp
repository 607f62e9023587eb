// Plain C++ for every other machine: loops over 16 rows that compilers turn into whatever vectors there are.
#include <cstring>

#include "kernel_table.hpp"

namespace bebr {
namespace {

struct Portable {
    template <class T>
    struct Lanes {
        T lane[kGroupRows];
    };
    using Words = Lanes<std::uint32_t>;
    using Sums = Lanes<std::int32_t>;
    using Partial = Sums;
    using Floats = Lanes<float>;

    static constexpr int kVectors = 1;  // vectors per group
    static constexpr int kDotTile = 4;
    static constexpr int kHammingTile = 4;
    template <int Q>
    static constexpr int kDotGroups = 1;
    template <int Q>
    static constexpr int kHammingGroups = 1;
    template <int Bits>
    static constexpr std::uint32_t kWordsPerPartial = UINT32_MAX;
    static constexpr std::uint32_t kSignWordsPerCount = 1u << 20;
    static constexpr bool kFieldsInPlace = false;

    // result.lane[i] = f(i) for every row.
    template <class T, class F>
    BEBR_INLINE static Lanes<T> each(const F& f) {
        Lanes<T> result;
        for (std::size_t i = 0; i < kGroupRows; ++i) result.lane[i] = f(i);
        return result;
    }

    // Bit i is f(i). Most often no bit is set, which is found out without a branch per row.
    template <class F>
    BEBR_INLINE static std::uint32_t bits(const F& f) {
        std::uint32_t any = 0;
        for (std::size_t i = 0; i < kGroupRows; ++i) any |= f(i);
        if (!any) return 0;
        std::uint32_t set = 0;
        for (std::size_t i = 0; i < kGroupRows; ++i) set |= std::uint32_t{f(i)} << i;
        return set;
    }

    BEBR_INLINE static Words load(const std::uint32_t* words, int) {
        return each<std::uint32_t>([&](std::size_t i) { return words[i]; });
    }
    BEBR_INLINE static std::uint32_t broadcast(std::int32_t value) { return static_cast<std::uint32_t>(value); }
    BEBR_INLINE static Sums no_sum() { return {}; }
    BEBR_INLINE static Partial no_partial() { return {}; }

    template <int Bits>
    BEBR_INLINE static Words levels(const Words& words, int field) {
        constexpr std::uint32_t kMask = ((1u << Bits) - 1) * 0x01010101u;
        return each<std::uint32_t>([&](std::size_t i) { return words.lane[i] >> (Bits * field) & kMask; });
    }
    BEBR_INLINE static Partial dot(const Partial& sum, const Words& levels, std::uint32_t value) {
        Partial result = sum;
        for (int byte = 0; byte < 4; ++byte) {
            const auto q = static_cast<std::int8_t>(value >> (8 * byte));
            for (std::size_t i = 0; i < kGroupRows; ++i)
                result.lane[i] += q * static_cast<std::int32_t>(levels.lane[i] >> (8 * byte) & 0xff);
        }
        return result;
    }
    BEBR_INLINE static Sums add(const Sums& a, const Sums& b) {
        return each<std::int32_t>([&](std::size_t i) { return a.lane[i] + b.lane[i]; });
    }
    BEBR_INLINE static Sums widen(const Sums& sum, const Partial& partial) { return add(sum, partial); }

    BEBR_INLINE static Words both(const Words& a, std::uint32_t b) {
        return each<std::uint32_t>([&](std::size_t i) { return a.lane[i] & b; });
    }
    BEBR_INLINE static Words either(const Words& a, const Words& b) {
        return each<std::uint32_t>([&](std::size_t i) { return a.lane[i] | b.lane[i]; });
    }
    BEBR_INLINE static Words shift_right(const Words& a, int bits) {
        return each<std::uint32_t>([&](std::size_t i) { return a.lane[i] >> bits; });
    }
    BEBR_INLINE static Partial count_differing(const Partial& count, const Words& a, std::uint32_t b) {
        return each<std::int32_t>([&](std::size_t i) {
            // The usual sum of neighbouring bits; unlike a call of popcount it becomes vector code everywhere.
            std::uint32_t x = a.lane[i] ^ b;
            x -= x >> 1 & 0x55555555u;
            x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
            x = (x + (x >> 4)) & 0x0f0f0f0fu;
            x += x >> 8;
            x += x >> 16;
            return count.lane[i] + static_cast<std::int32_t>(x & 0x3f);
        });
    }
    BEBR_INLINE static Sums widen_counts(const Sums& sum, const Partial& count) { return add(sum, count); }

    BEBR_INLINE static Floats no_score() { return {}; }
    BEBR_INLINE static Floats add_scaled(const Floats& score, const Sums& sum, std::int32_t offset, float scale) {
        return each<float>([&](std::size_t i) {
            return score.lane[i] + scale * static_cast<float>(2 * sum.lane[i] + offset);
        });
    }
    BEBR_INLINE static Floats load_gains(const std::uint16_t* gains, int) {
        return each<float>([&](std::size_t i) { return half_to_float(gains[i]); });
    }
    BEBR_INLINE static Floats multiply(const Floats& a, const Floats& b) {
        return each<float>([&](std::size_t i) { return a.lane[i] * b.lane[i]; });
    }

    template <class T>
    BEBR_INLINE static void store(T* lanes, const Lanes<T>& values) {
        std::memcpy(lanes, values.lane, sizeof values.lane);
    }
    template <class T>
    BEBR_INLINE static Lanes<T> load(const T* lanes) {
        return each<T>([&](std::size_t i) { return lanes[i]; });
    }
    BEBR_INLINE static std::uint32_t within(const Floats& scores, float bound) {
        return bits([&](std::size_t i) { return scores.lane[i] >= bound; });
    }
    BEBR_INLINE static std::uint32_t within(const Sums& distances, std::int32_t bound) {
        return bits([&](std::size_t i) { return distances.lane[i] <= bound; });
    }
    BEBR_INLINE static Words exclusive(const Words& a, const Words& b) {
        return each<std::uint32_t>([&](std::size_t i) { return a.lane[i] ^ b.lane[i]; });
    }
    BEBR_INLINE static std::uint64_t reduce(const Words& a) {
        std::uint64_t sum = 0;
        for (std::uint32_t lane : a.lane) sum += lane;
        return sum;
    }

    // IEEE 754: exact for every half, subnormal, infinite and NaN ones included.
    BEBR_INLINE static float half_to_float(std::uint16_t half) {
        const std::uint32_t sign = (half & 0x8000u) << 16;
        const std::uint32_t magnitude = half & 0x7fffu;
        // Moved to where float keeps them, exponent and fraction stand for a number 2^112 too small; the product with
        // a power of two is exact, and turns subnormal halves into normal floats.
        const std::uint32_t small_bits = magnitude << 13;
        float value;
        std::memcpy(&value, &small_bits, sizeof value);
        value *= 0x1p112f;
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        if (magnitude >= 0x7c00u) bits |= 0x7f800000u;  // infinity and NaN
        bits |= sign;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
};

}  // namespace

constinit const Kernels portable_kernels = make_kernels<Portable>("portable");

}  // namespace bebr
